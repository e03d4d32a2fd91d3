import GRDB

/// Snapshots that were begun and not completed, or not wholly deleted.
enum UnfinishedSnapshots {
  /// Removes their rows, and what an index merge that died has left. Only for the holder of the
  /// writer's lock: then no save is running, and they are dead.
  ///
  /// - Returns: How many snapshots there were.
  @discardableResult
  static func remove(_ database: Database) throws -> UInt64 {
    try PageIndex.removeUnfinishedRuns(database)
    let ids = try ids(database)
    try SnapshotRemover.remove(ids, database)
    return UInt64(ids.count)
  }

  static func ids(_ database: Database) throws -> [Int64] {
    try Int64.fetchAll(database, sql: "SELECT id FROM snapshot WHERE state = 'writing'")
  }
}
