/// Finds snapshots by what users call them. Only complete snapshots exist for readers.
extension StoreReader {
  /// The fewest characters of a UUID that name a snapshot.
  private var minimumUUIDPrefix: Int { 4 }

  /// The snapshot that `reference` names.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, with names that are near; `invalidArgument` when a UUID
  ///   prefix fits several; `corrupt`.
  package func snapshot(_ reference: SnapshotReference) throws -> StoredSnapshot {
    var snapshot = try base(reference.base)
    for step in 0..<reference.ancestorCount {
      guard let parentID = snapshot.parentID, let parent = try self.snapshot(id: parentID) else {
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

  /// The snapshot with this row id, if there is one.
  package func snapshot(id: Int64) throws -> StoredSnapshot? {
    let statement = try statement(.snapshotByID)
    try statement.bind(id, at: 1)
    return try statement.step() ? StoredSnapshot(statement) : nil
  }

  private func base(_ text: String) throws -> StoredSnapshot {
    if text == SnapshotName.latest {
      let newest = try statement(.newestSnapshot)
      guard try newest.step() else {
        throw VMCheckpointError(
          .notFound,
          "the store has no snapshot",
          hint: "make one with: vmckpt save"
        )
      }
      return try StoredSnapshot(newest)
    }
    let named = try statement(.snapshotByName)
    try named.bind(text, at: 1)
    if try named.step() { return try StoredSnapshot(named) }
    return try byUUIDPrefix(text.lowercased()) ?? { throw try notFound(text) }()
  }

  private func byUUIDPrefix(_ prefix: String) throws -> StoredSnapshot? {
    guard prefix.utf8.count >= minimumUUIDPrefix,
      prefix.allSatisfy({ $0.isHexDigit || $0 == "-" })
    else { return nil }
    let statement = try statement(.snapshotsByUUID)
    try statement.bind(prefix, at: 1)
    var matches: [StoredSnapshot] = []
    while try statement.step() { matches.append(try StoredSnapshot(statement)) }
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

  private func notFound(_ name: String) throws -> VMCheckpointError {
    let statement = try statement(.snapshotNames)
    var names: [String] = []
    while try statement.step() { names.append(try statement.text(0)) }
    let near = NameSuggestion.nearest(to: name, among: names)
    let hint =
      near.isEmpty
      ? "see all with: vmckpt list"
      : "did you mean \(near.map(quotedName).joined(separator: " or "))?"
    return VMCheckpointError(.notFound, "there is no snapshot \(quotedName(name))", hint: hint)
  }
}
