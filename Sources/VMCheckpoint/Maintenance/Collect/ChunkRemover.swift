import GRDB

/// Deletes chunks. Only for the holder of the chunks' exclusive lock, or of the writer's lock for
/// chunks that no complete snapshot can name yet.
enum ChunkRemover {
  /// Chunks deleted in one transaction: SQLite keeps the overwritten pages in its journal and in
  /// memory until the commit, some 20 MiB.
  static let batchChunkCount = 512

  /// Deletes every chunk with an id above `lastChunkID`.
  static func removeChunks(after lastChunkID: Int64, _ database: Database) throws {
    let ids = try Int64.fetchAll(
      database,
      sql: "SELECT id FROM chunk WHERE id > ?",
      arguments: [lastChunkID]
    )
    try remove(ids, database, control: OperationControl())
  }

  /// Deletes chunks that no extent and no overlay names, in transactions of
  /// ``batchChunkCount``, or of less where the disk has no room for that large a journal.
  ///
  /// - Throws: ``VMCheckpointError`` when cancelled; what was deleted until then is.
  static func remove(
    _ chunkIDs: [Int64],
    _ database: Database,
    control: OperationControl
  ) throws {
    var progress = ProgressReporter(
      control,
      phase: "freeing chunks",
      totalByteCount: UInt64(chunkIDs.count * StoreFormat.chunkByteCapacity)
    )
    try withoutForeignKeys(database) {
      let deleteChunk = try HotStatement(database, "DELETE FROM chunk WHERE id = ?")
      let deleteData = try HotStatement(database, "DELETE FROM chunk_data WHERE chunk_id = ?")
      var start = 0
      var batch = SpaceBoundedBatch(count: batchChunkCount)
      while start < chunkIDs.count {
        try control.cancellation.check()
        var end = start
        try batch.run { count in
          end = min(start + count, chunkIDs.count)
          try database.inTransaction(.immediate) {
            for id in chunkIDs[start..<end] {
              deleteData.bind(id, at: 1)
              try deleteData.run()
              deleteChunk.bind(id, at: 1)
              try deleteChunk.run()
            }
            return .commit
          }
        }
        start = end
        progress.report(completedByteCount: UInt64(end * StoreFormat.chunkByteCapacity))
      }
    }
  }

  /// Runs `body` without SQLite's own check that nothing names a deleted chunk: it would read all
  /// extents for each chunk, as they have no index by chunk, which would cost every save. Who
  /// deletes chunks has read all extents just before.
  static func withoutForeignKeys<Result>(
    _ database: Database,
    _ body: () throws -> Result
  ) throws -> Result {
    try database.execute(sql: "PRAGMA foreign_keys = OFF")
    defer { try? database.execute(sql: "PRAGMA foreign_keys = ON") }
    return try body()
  }
}
