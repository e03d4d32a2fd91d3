import GRDB
import GRDBSQLite

/// A transaction of a save, which may write very much: what it writes goes to the file as it comes, without keeping
/// readers out (``EarlyWrites``), and is synced once, at the commit.
///
/// The connection's thread begins and fills it. Another thread may commit it, and alone uses the connection then.
final class LongTransaction: @unchecked Sendable {
  /// 256 MiB. Each commit costs four or five syncs.
  private static let byteLimit = 256 << 20

  /// How much memory may hold what cannot be written early: 16 MiB.
  private static let heldByteLimit = 16 << 20

  /// How long other programs' small transactions wait for this one.
  private static let durationLimitSeconds = 10.0

  private let database: Database
  private let connection: OpaquePointer?
  private let busy: BusyPolicy
  private let commitStatement: HotStatement
  private var early: EarlyWrites?
  private var beginSeconds = 0.0
  /// Is told what was written to the file.
  private var writeback: BackgroundWriteback?

  init(_ database: Database, busy: BusyPolicy) throws {
    self.database = database
    self.busy = busy
    connection = database.sqliteConnection
    commitStatement = try HotStatement(database, "COMMIT")
  }

  /// Begins it, when no other one is open. Waits for those of others.
  ///
  /// - Throws: `DatabaseError`; none is open then.
  func begin() throws {
    // Pages that do not fit into the cache are written early. This does not take effect within a transaction.
    try database.execute(sql: "PRAGMA cache_spill = ON")
    do {
      try database.beginTransaction(.immediate)
    } catch {
      end()
      throw error
    }
    beginSeconds = MonotonicClock.nowSeconds
    early = CombinedFile.beginEarlyWrites(on: connection) { [busy] attempt in
      busy.wait(attempt: attempt)
    } onWrite: { [weak self] byteCount in
      self?.writeback?.note(byteCount: byteCount)
    }
    // Otherwise SQLite would keep readers out as soon as its cache is full.
    if early == nil {
      try database.rollback()
      end()
      try database.beginTransaction(.immediate)
    }
  }

  /// Runs `body`, in which these transactions write. The kernel writes to disk as they do, so that a commit has little
  /// left to sync.
  func writingBack<Result>(_ body: () throws -> Result) throws -> Result {
    guard let path = sqlite3_db_filename(connection, "main"),
      let descriptor = OpenFile.writableDescriptor(path: String(cString: path))
    else { return try body() }
    return try BackgroundWriteback.run([descriptor]) { writeback in
      self.writeback = writeback
      defer { self.writeback = nil }
      return try body()
    }
  }

  /// Whether it should be committed before more is written.
  ///
  /// - Parameter byteCount: What it has of chunks and rows.
  func isFull(byteCount: Int) -> Bool {
    guard let early else { return byteCount >= ChunkWriter.batchByteLimit }
    return byteCount >= Self.byteLimit || early.heldByteCount >= Self.heldByteLimit
      || MonotonicClock.nowSeconds - beginSeconds >= Self.durationLimitSeconds
  }

  /// Commits it.
  ///
  /// - Throws: `DatabaseError`; it may be open then, and must be rolled back.
  func commit() throws {
    try commitStatement.run()
    end()
  }

  /// Rolls it back if it is open.
  func rollBack() {
    if database.isInsideTransaction { try? database.rollback() }
    end()
    // On a full disk nothing could be removed without this space.
    try? Self.cutRemains(database)
  }

  /// Cuts off what such a transaction of a killed process, or a failed one, has left behind the database's last page.
  /// Waits for readers where there is something.
  ///
  /// - Throws: `DatabaseError`.
  static func cutRemains(_ database: Database) throws {
    let pageCount = try pageCount(database)
    guard CombinedFile.isLonger(on: database.sqliteConnection, thanPageCount: pageCount) else {
      return
    }
    try database.inTransaction(.exclusive) {
      let code = CombinedFile.cut(
        on: database.sqliteConnection,
        toPageCount: try Self.pageCount(database)
      )
      if code != SQLITE_OK { throw DatabaseError(resultCode: ResultCode(rawValue: code)) }
      return .rollback
    }
  }

  private static func pageCount(_ database: Database) throws -> Int64 {
    try Int64.fetchOne(database, sql: "PRAGMA page_count") ?? 0
  }

  private func end() {
    early = nil
    // GRDB takes statements only on the connection's own thread. This one cannot fail but for want of memory.
    sqlite3_exec(connection, "PRAGMA cache_spill = OFF", nil, nil, nil)
  }
}
