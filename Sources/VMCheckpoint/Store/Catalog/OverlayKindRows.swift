import GRDB

/// The rows of `overlay_kind`: what priority and scope each kind has, for questions in SQL.
///
/// Every store has the rows of the kinds that version 1 began with. The row of a later kind comes with the
/// first overlay of it, and so does the kind's feature. The feature keeps programs that do not know the
/// kind from restoring guests without it.
enum OverlayKindRows {
  /// Gives a new store the kinds that version 1 began with.
  static func insertVersion1(_ database: Database) throws {
    for kind in OverlayKind.allCases where kind.feature == nil {
      try insert(kind, database)
    }
  }

  /// Prepares the store for overlays of `kinds`, in the transaction that brings them.
  static func require(_ kinds: Set<OverlayKind>, _ database: Database) throws {
    for kind in kinds {
      guard let feature = kind.feature else { continue }
      try StoreFormat.insert(feature, database)
      try insert(kind, database)
    }
  }

  private static func insert(_ kind: OverlayKind, _ database: Database) throws {
    try database.execute(
      sql: """
        INSERT OR IGNORE INTO overlay_kind (kind, priority, scope, contents) VALUES (?, ?, ?, ?)
        """,
      arguments: [
        kind.rawValue, kind.priority, kind.scope.rawValue,
        kind.storesContents ? "stored" : "derived",
      ]
    )
  }

  /// Whether `overlay_kind` has the rows that the store should have.
  static func areRight(_ database: Database) throws -> Bool {
    struct Kind: Hashable {
      var kind: String
      var priority: Int64
      var scope: String
      var contents: String
    }
    let found = try Row.fetchAll(
      database,
      sql: "SELECT kind, priority, scope, contents FROM overlay_kind LIMIT 1000"
    ).map { row in
      Kind(
        kind: try row.value("kind"),
        priority: try row.value("priority"),
        scope: try row.value("scope"),
        contents: try row.value("contents")
      )
    }
    let features = Set(try StoreFormat.features(of: database).map(\.name))
    let expected = OverlayKind.allCases.filter { kind in
      kind.feature.map { features.contains($0.name) } ?? true
    }.map { kind in
      Kind(
        kind: kind.rawValue,
        priority: Int64(kind.priority),
        scope: kind.scope.rawValue,
        contents: kind.storesContents ? "stored" : "derived"
      )
    }
    return Set(found) == Set(expected)
  }
}
