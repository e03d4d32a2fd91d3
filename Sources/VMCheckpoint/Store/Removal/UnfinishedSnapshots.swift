import GRDB

/// Snapshots that were begun and not completed, or not wholly deleted.
enum UnfinishedSnapshots {
  /// Removes their rows, and what an index merge that died has left. Only for the holder of the
  /// writer's lock: then no save is running, and they are dead.
  ///
  /// - Returns: How many snapshots there were.
  /// - Throws: ``VMCheckpointError`` when cancelled; what was removed until then is.
  @discardableResult
  static func remove(
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws -> UInt64 {
    try PageIndex.removeUnfinishedRuns(database, cancellation)
    let ids = try ids(database)
    try SnapshotRemover.remove(ids, database, cancellation)
    return UInt64(ids.count)
  }

  static func ids(_ database: Database) throws -> [Int64] {
    try Int64.fetchAll(database, sql: "SELECT id FROM snapshot WHERE state = 'writing'")
  }
}
