import GRDB

/// Finds snapshots by what users call them. Only complete snapshots exist for readers.
enum SnapshotCatalog {
  /// The fewest characters of a UUID that name a snapshot.
  private static let minimumUUIDPrefix = 4

  /// The snapshot that `reference` names.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, with names that are near; `invalidArgument` when
  ///   a UUID prefix fits several.
  static func resolve(_ reference: SnapshotReference, in database: Database) throws -> SnapshotRow {
    var snapshot = try base(reference, in: database)
    for step in 0..<reference.ancestorCount {
      guard let parentID = snapshot.parentID, let parent = try fetch(id: parentID, in: database)
      else {
        throw VMCheckpointError(
          .notFound,
          "snapshot \(quotedName(reference.base)) has \(step) "
            + "\(step == 1 ? "parent" : "parents"), not \(reference.ancestorCount)",
          hint: "see them with: vmckpt list"
        )
      }
      // A parent is always older: so there is an end, whatever a damaged row says.
      guard parent.id < snapshot.id else {
        throw VMCheckpointError(
          .corrupt,
          "\(snapshot.title) is damaged: its parent is not older than it is",
          hint: "see what else is hurt with: vmckpt verify"
        )
      }
      snapshot = parent
    }
    return snapshot
  }

  /// The complete snapshot with this row id.
  static func fetch(id: Int64, in database: Database) throws -> SnapshotRow? {
    try SnapshotRow.fetchOne(
      database,
      sql: "SELECT \(SnapshotRow.columns) FROM snapshot s WHERE s.id = ? AND s.state = 'complete'",
      arguments: [id]
    )
  }

  /// The complete snapshot that was begun last, of one VM or of all.
  static func newest(ofVM vm: String? = nil, in database: Database) throws -> SnapshotRow? {
    try SnapshotRow.fetchOne(
      database,
      sql: """
        SELECT \(SnapshotRow.columns) FROM snapshot s
         WHERE s.state = 'complete' \(vm == nil ? "" : "AND s.vm = ?") ORDER BY s.id DESC LIMIT 1
        """,
      arguments: vm.map { [$0] } ?? []
    )
  }

  /// All complete snapshots in the order of their saving.
  static func all(in database: Database) throws -> [SnapshotRow] {
    try SnapshotRow.fetchAll(
      database,
      sql: "SELECT \(SnapshotRow.columns) FROM snapshot s WHERE s.state = 'complete' ORDER BY s.id"
    )
  }

  private static func base(
    _ reference: SnapshotReference,
    in database: Database
  ) throws -> SnapshotRow {
    let text = reference.base
    if text == SnapshotName.latest {
      if let newest = try newest(in: database) { return newest }
      throw VMCheckpointError(
        .notFound,
        "the store has no snapshot",
        hint: "make one with: vmckpt save"
      )
    }
    if let named = try SnapshotRow.fetchOne(
      database,
      sql: """
        SELECT \(SnapshotRow.columns) FROM snapshot s WHERE s.name = ? AND s.state = 'complete'
        """,
      arguments: [text]
    ) {
      return named
    }
    return try byUUIDPrefix(text, in: database) ?? { throw try notFound(text, in: database) }()
  }

  private static func byUUIDPrefix(
    _ prefix: String,
    in database: Database
  ) throws -> SnapshotRow? {
    let prefix = prefix.lowercased()
    guard prefix.count >= minimumUUIDPrefix,
      prefix.allSatisfy({ $0.isHexDigit || $0 == "-" })
    else { return nil }
    let matches = try SnapshotRow.fetchAll(
      database,
      sql: """
        SELECT \(SnapshotRow.columns) FROM snapshot s
         WHERE s.uuid >= ? AND s.uuid < ? AND s.state = 'complete' ORDER BY s.id LIMIT 4
        """,
      arguments: [prefix, prefix + "g"]
    )
    guard matches.count < 2 else {
      let names = matches.prefix(3).map { quotedName($0.name) }.joined(separator: ", ")
      throw VMCheckpointError(
        .invalidArgument,
        "the UUID prefix \(quotedName(prefix)) fits several snapshots: "
          + names + (matches.count > 3 ? " and more" : ""),
        hint: "give more of the UUID, or a name"
      )
    }
    return matches.first
  }

  private static func notFound(
    _ name: String,
    in database: Database
  ) throws -> VMCheckpointError {
    let names = try String.fetchAll(
      database,
      sql: "SELECT name FROM snapshot WHERE state = 'complete' ORDER BY id DESC LIMIT 10000"
    )
    let near = NameSuggestion.nearest(to: name, among: names)
    let hint =
      near.isEmpty
      ? "see all with: vmckpt list"
      : "did you mean \(near.map(quotedName).joined(separator: " or "))?"
    return VMCheckpointError(.notFound, "there is no snapshot \(quotedName(name))", hint: hint)
  }
}
