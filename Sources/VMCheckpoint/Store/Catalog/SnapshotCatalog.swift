package import GRDB

/// Finds snapshots. Only complete snapshots exist for readers.
package enum SnapshotCatalog {
  /// The snapshot that `reference` names.
  ///
  /// - Throws: As ``StoreReader/snapshot(_:)``.
  package static func resolve(
    _ reference: SnapshotReference,
    in database: Database
  ) throws -> SnapshotRow {
    let found = try StoreReader(database).snapshot(reference)
    guard let snapshot = try fetch(id: found.id, in: database) else {
      throw VMCheckpointError(.notFound, "\(found.title) was deleted in the meantime")
    }
    return snapshot
  }

  /// The complete snapshot with this row id.
  static func fetch(id: Int64, in database: Database) throws -> SnapshotRow? {
    try SnapshotRow.fetchOne(
      try database.cachedStatement(
        sql: "SELECT \(SnapshotRow.columns) FROM snapshot s WHERE s.id = ? AND s.state = 'complete'"
      ),
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
}
