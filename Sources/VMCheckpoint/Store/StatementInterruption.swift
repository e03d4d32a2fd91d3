import GRDB
import GRDBSQLite

/// Lets a cancellation end a connection's statements, however long one takes: what a hostile store holds
/// must not keep a user's Ctrl-C waiting.
enum StatementInterruption {
  /// Instructions of SQLite's machine between two looks at the flag: a few milliseconds.
  private static let instructionCount: Int32 = 100_000

  /// Makes statements of `database` end with `SQLITE_INTERRUPT` soon after `flag` is cancelled, until
  /// ``end(_:)``. The flag must live as long.
  static func begin(_ database: Database, _ flag: CancellationFlag) {
    sqlite3_progress_handler(
      database.sqliteConnection,
      instructionCount,
      { Unmanaged<CancellationFlag>.fromOpaque($0!).takeUnretainedValue().isCancelled ? 1 : 0 },
      Unmanaged.passUnretained(flag).toOpaque()
    )
  }

  /// Lets statements run to their ends, as those of a clean-up must.
  static func end(_ database: Database) {
    sqlite3_progress_handler(database.sqliteConnection, 0, nil, nil)
  }
}
