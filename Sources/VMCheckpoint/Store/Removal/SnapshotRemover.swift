import GRDB

/// Deletes snapshots' rows; their chunks are freed afterwards.
enum SnapshotRemover {
  /// Extents deleted in one transaction.
  private static let extentBatchCount = 100_000

  /// Snapshots deleted in one transaction. A store into which somebody has planted very many must not
  /// need a sync for each.
  private static let snapshotBatchCount = 256

  /// Makes complete snapshots disappear, all in the caller's transaction. Children descend from
  /// their grandparent then.
  static func hide(_ ids: [Int64], _ database: Database) throws {
    for id in ids {
      try database.execute(
        sql: """
          UPDATE snapshot SET parent_id = (SELECT parent_id FROM snapshot WHERE id = ?1)
           WHERE parent_id = ?1
          """,
        arguments: [id]
      )
      try database.execute(
        sql: "UPDATE snapshot SET state = 'writing' WHERE id = ?",
        arguments: [id]
      )
    }
  }

  /// Deletes all rows of snapshots that nobody sees, in short transactions.
  ///
  /// - Throws: ``VMCheckpointError`` when cancelled; what was deleted until then is.
  static func remove(
    _ ids: [Int64],
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws {
    var rest = ids[...]
    var batch = SpaceBoundedBatch(count: extentBatchCount)
    while !rest.isEmpty {
      try cancellation.check()
      for id in rest.prefix(snapshotBatchCount) {
        try LargeDeviceStates.erase(of: id, database, cancellation)
      }
      try batch.run { extentCount in
        var doneCount = 0
        try database.inTransaction(.immediate) {
          doneCount = try removeBatch(
            rest.prefix(snapshotBatchCount),
            extentCount: extentCount,
            database
          )
          return .commit
        }
        rest = rest.dropFirst(doneCount)
      }
    }
  }

  /// - Returns: How many of the snapshots are gone; the next may have lost some of its extents.
  private static func removeBatch(
    _ ids: ArraySlice<Int64>,
    extentCount: Int,
    _ database: Database
  ) throws -> Int {
    var extentRoom = extentCount
    for (index, id) in ids.enumerated() {
      try database.execute(
        sql: """
          DELETE FROM ram_extent WHERE snapshot_id = ?1 AND first_pfn <= (
            SELECT max(first_pfn) FROM (
              SELECT first_pfn FROM ram_extent WHERE snapshot_id = ?1
               ORDER BY first_pfn LIMIT ?2))
          """,
        arguments: [id, extentRoom]
      )
      extentRoom -= database.changesCount
      // Perhaps there are more.
      guard extentRoom > 0 else { return index }
      // A row that takes others with it is deleted under a second journal, in a temporary file, which would hold them
      // too. So the largest go first.
      try database.execute(
        sql: "DELETE FROM device_state WHERE snapshot_id = ?",
        arguments: [id]
      )
      try database.execute(
        sql: "DELETE FROM snapshot WHERE id = ? AND state = 'writing'",
        arguments: [id]
      )
    }
    return ids.count
  }
}
