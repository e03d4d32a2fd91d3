import GRDB

/// Deletes chunks that no row names, and never one that a row does. Whatever the caller believes, each
/// transaction deletes only what a look at all rows has found unnamed. Another connection cannot
/// commit in between.
///
/// Only for the holder of the chunks' exclusive lock, or of the writer's lock for chunks that no
/// complete snapshot can name yet. Others may be about to read chunks that no row names any more.
enum ChunkRemover {
  /// Chunks deleted in one transaction: SQLite keeps the overwritten pages in its journal and in
  /// memory until the commit, some 20 MiB.
  static let batchChunkCount = 512

  /// Deletes those of `chunkIDs` that no extent and no overlay names. Each transaction takes
  /// ``batchChunkCount``, or fewer where the disk does not have room for that large a journal.
  ///
  /// - Parameters:
  ///   - chunkIDs: Ascending.
  ///   - requireLocks: Called in each transaction before it deletes; throws when the locks that keep
  ///     others away are not held any more.
  /// - Returns: Those that a row names, which stay.
  /// - Throws: ``VMCheckpointError`` when cancelled, and what `requireLocks` throws; what was deleted
  ///   until then is.
  /// - Complexity: O(*n*) in the extents of all snapshots, for each commit of others one time more.
  @discardableResult
  static func remove(
    _ chunkIDs: [Int64],
    _ database: Database,
    control: OperationControl,
    requireLocks: () throws -> Void
  ) throws -> [Int64] {
    guard !chunkIDs.isEmpty else { return [] }
    var progress = ProgressReporter(
      control,
      phase: "freeing chunks",
      totalByteCount: UInt64(chunkIDs.count * ChunkFormat.byteCapacity)
    )
    return try withoutForeignKeys(database) {
      var kept: [Int64] = []
      let deleteChunk = try HotStatement(database, "DELETE FROM chunk WHERE id = ?")
      let deleteData = try HotStatement(database, "DELETE FROM chunk_data WHERE chunk_id = ?")
      let deletePlaces = try ChunkPlaces(database)
      var names: NamedChunks?
      var start = 0
      var batch = SpaceBoundedBatch(count: batchChunkCount)
      while start < chunkIDs.count {
        try control.cancellation.check()
        var end = start
        var named: [Int64] = []
        try batch.run { count in
          end = min(start + count, chunkIDs.count)
          named = []
          try database.inTransaction(.immediate) {
            try requireLocks()
            if try names?.isCurrent(database) != true {
              names = try NamedChunks(database, among: chunkIDs, control.cancellation)
            }
            for index in start..<end {
              guard names?.isNamed(index) == false else {
                named.append(chunkIDs[index])
                continue
              }
              deleteData.bind(chunkIDs[index], at: 1)
              try deleteData.run()
              try deletePlaces.remove(chunkIDs[index])
              deleteChunk.bind(chunkIDs[index], at: 1)
              try deleteChunk.run()
            }
            return .commit
          }
        }
        kept += named
        start = end
        progress.report(completedByteCount: UInt64(end * ChunkFormat.byteCapacity))
      }
      return kept
    }
  }

  /// Runs `body` without SQLite's own check that nothing names a deleted chunk. It would read all
  /// extents for each chunk, as they have no index by chunk: such an index would cost every save. A
  /// caller that deletes chunks has read all extents just before.
  static func withoutForeignKeys<Result>(
    _ database: Database,
    _ body: () throws -> Result
  ) throws -> Result {
    try database.execute(sql: "PRAGMA foreign_keys = OFF")
    defer { try? database.execute(sql: "PRAGMA foreign_keys = ON") }
    return try body()
  }
}
