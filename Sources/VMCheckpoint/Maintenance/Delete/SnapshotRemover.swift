import GRDB

/// Deletes snapshots' rows; their chunks are freed afterwards.
enum SnapshotRemover {
  /// Extents deleted in one transaction.
  private static let extentBatchCount = 100_000

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
  static func remove(_ ids: [Int64], _ database: Database) throws {
    for id in ids {
      var deleted = 0
      repeat {
        try database.inTransaction(.immediate) {
          try database.execute(
            sql: """
              DELETE FROM ram_extent WHERE snapshot_id = ?1 AND first_pfn <= (
                SELECT max(first_pfn) FROM (
                  SELECT first_pfn FROM ram_extent WHERE snapshot_id = ?1
                   ORDER BY first_pfn LIMIT \(extentBatchCount)))
              """,
            arguments: [id]
          )
          deleted = database.changesCount
          return .commit
        }
      } while deleted > 0
      try database.inTransaction(.immediate) {
        try database.execute(
          sql: "DELETE FROM snapshot WHERE id = ? AND state = 'writing'",
          arguments: [id]
        )
        return .commit
      }
    }
  }
}
