import GRDB

/// The transactions of a save: short ones, so that readers and small writers hardly wait, but few,
/// because each is synced to disk.
struct SaveBatch {
  /// 8 MiB of chunks: what SQLite holds in memory until the commit. A commit of this size takes some
  /// 10 ms, for which the buffers of ``SaveExchange`` keep the workers busy.
  static let byteLimit = 8 << 20

  /// Rows other than chunks cost about this much.
  private static let rowByteCount = 64

  private let database: Database
  private var byteCount = 0

  init(_ database: Database) {
    self.database = database
  }

  /// Begins a transaction if none is open; call before writing.
  func beginIfNeeded() throws {
    if !database.isInsideTransaction { try database.beginTransaction(.immediate) }
  }

  /// Whether a transaction is open.
  var isOpen: Bool { database.isInsideTransaction }

  mutating func add(chunkByteCount: Int) { byteCount += chunkByteCount }
  mutating func add(rowCount: Int) { byteCount += rowCount * Self.rowByteCount }

  var isFull: Bool { byteCount >= Self.byteLimit }

  /// Commits what is open.
  mutating func commit() throws {
    if database.isInsideTransaction { try database.commit() }
    byteCount = 0
  }
}
