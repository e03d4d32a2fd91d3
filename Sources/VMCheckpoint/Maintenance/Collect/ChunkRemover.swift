import GRDB

/// Deletes chunks that no row names, and never one that a row does: whatever the caller believes, each
/// transaction deletes only what a look at all rows has found unnamed, with no commit of another
/// connection in between.
///
/// Only for the holder of the chunks' exclusive lock, or of the writer's lock for chunks that no
/// complete snapshot can name yet: others may be about to read what nobody names any more.
enum ChunkRemover {
  /// Chunks deleted in one transaction: SQLite keeps the overwritten pages in its journal and in
  /// memory until the commit, some 20 MiB.
  static let batchChunkCount = 512

  /// Deletes those of `chunkIDs` that no extent and no overlay names, in transactions of
  /// ``batchChunkCount``, or of less where the disk has no room for that large a journal.
  ///
  /// - Parameters:
  ///   - chunkIDs: Ascending.
  ///   - requireLocks: Called in each transaction before it deletes; throws when the locks that keep
  ///     others away are not held any more.
  /// - Throws: ``VMCheckpointError`` when cancelled, and what `requireLocks` throws; what was deleted
  ///   until then is.
  /// - Complexity: O(*n*) in the extents of all snapshots, for each commit of others one time more.
  static func remove(
    _ chunkIDs: [Int64],
    _ database: Database,
    control: OperationControl,
    requireLocks: () throws -> Void
  ) throws {
    guard !chunkIDs.isEmpty else { return }
    var progress = ProgressReporter(
      control,
      phase: "freeing chunks",
      totalByteCount: UInt64(chunkIDs.count * StoreFormat.chunkByteCapacity)
    )
    try withoutForeignKeys(database) {
      let deleteChunk = try HotStatement(database, "DELETE FROM chunk WHERE id = ?")
      let deleteData = try HotStatement(database, "DELETE FROM chunk_data WHERE chunk_id = ?")
      var named: NamedChunks?
      var start = 0
      var batch = SpaceBoundedBatch(count: batchChunkCount)
      while start < chunkIDs.count {
        try control.cancellation.check()
        var end = start
        try batch.run { count in
          end = min(start + count, chunkIDs.count)
          try database.inTransaction(.immediate) {
            try requireLocks()
            if try named?.isCurrent(database) != true {
              named = try NamedChunks(database, among: chunkIDs, control.cancellation)
            }
            for index in start..<end where named?.isNamed(index) == false {
              deleteData.bind(chunkIDs[index], at: 1)
              try deleteData.run()
              deleteChunk.bind(chunkIDs[index], at: 1)
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

/// Which of some chunks a row names, of whatever snapshot, as of one moment.
private struct NamedChunks {
  private var isNamedAt: [Bool]
  private let version: Int64

  /// - Parameter chunkIDs: Ascending.
  init(
    _ database: Database,
    among chunkIDs: [Int64],
    _ cancellation: CancellationFlag
  ) throws {
    version = try Self.version(database)
    isNamedAt = [Bool](repeating: false, count: chunkIDs.count)
    var list = ChunkIDList(chunkIDs)
    for sql in [
      "SELECT chunk_id FROM ram_extent WHERE chunk_id BETWEEN ? AND ?",
      "SELECT contents_chunk_id FROM overlay WHERE contents_chunk_id BETWEEN ? AND ?",
    ] {
      let select = try HotStatement(database, sql)
      defer { select.reset() }
      select.bind(chunkIDs.first ?? 0, at: 1)
      select.bind(chunkIDs.last ?? 0, at: 2)
      var rowCount = 0
      while try select.step() {
        rowCount += 1
        if rowCount % 65536 == 0 { try cancellation.check() }
        if let index = list.index(of: select.int64(0)) { isNamedAt[index] = true }
      }
    }
  }

  func isNamed(_ index: Int) -> Bool { isNamedAt[index] }

  /// Whether no other connection has committed anything since. Call in a transaction, which keeps
  /// others from doing so.
  func isCurrent(_ database: Database) throws -> Bool { try Self.version(database) == version }

  /// Changes with each commit of another connection.
  private static func version(_ database: Database) throws -> Int64 {
    try Int64.fetchOne(database, sql: "PRAGMA data_version") ?? 0
  }
}
