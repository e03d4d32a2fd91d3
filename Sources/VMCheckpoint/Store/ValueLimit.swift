import GRDB
import GRDBSQLite

/// How long a value in the store may be for SQLite to load it. A hostile store's names of hundreds of
/// megabytes must cost an error and no memory.
enum ValueLimit {
  /// 1 MiB: many times what any row of the format has, but for those that are named below.
  private static let usualByteCount: Int32 = 1 << 20

  /// SQLite's own limit on Debian.
  private static let largeByteCount: Int32 = 1_000_000_000

  /// Sets the usual limit, for a new connection.
  static func set(_ database: Database) {
    sqlite3_limit(database.sqliteConnection, SQLITE_LIMIT_LENGTH, usualByteCount)
  }

  /// Runs `body`, which reads or writes values that may be long: device states, and the fences of the page
  /// index.
  static func allowingLargeValues<Result>(
    _ database: Database,
    _ body: () throws -> Result
  ) rethrows -> Result {
    let connection = database.sqliteConnection
    let previous = sqlite3_limit(connection, SQLITE_LIMIT_LENGTH, largeByteCount)
    defer { sqlite3_limit(connection, SQLITE_LIMIT_LENGTH, previous) }
    return try body()
  }
}
