import GRDB

/// Which of some chunks a row names, of whatever snapshot, as of one moment.
struct NamedChunks {
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
  static func version(_ database: Database) throws -> Int64 {
    try Int64.fetchOne(database, sql: "PRAGMA data_version") ?? 0
  }
}
