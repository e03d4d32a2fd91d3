import GRDBSQLite

/// What a database's header says of its owner. It is read without changing anything: opening
/// another program's database as usual may write to it, to undo what its program had begun.
///
/// SQLite reads it, and not this process by itself: closing a descriptor of its own would drop the
/// locks that SQLite holds on the file for another ``Store`` object. (SQLite, "How To Corrupt An
/// SQLite Database File", 2.2.)
struct DatabaseHeader {
  private let applicationID: Int32

  /// The header of the file at `path`; `nil` when it is not an SQLite database or cannot be read.
  init?(path: String) {
    // Immutable: no locks, no journal, no write-ahead log. Without GRDB, whose queues cost a thread
    // (``ConnectionKeeper``).
    let uri = "file:\(Self.escaped(path))?immutable=1"
    var connection: OpaquePointer?
    defer { sqlite3_close_v2(connection) }
    let flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX
    guard sqlite3_open_v2(uri, &connection, flags, nil) == SQLITE_OK else { return nil }
    var statement: OpaquePointer?
    defer { sqlite3_finalize(statement) }
    guard
      sqlite3_prepare_v2(connection, "PRAGMA application_id", -1, &statement, nil) == SQLITE_OK,
      sqlite3_step(statement) == SQLITE_ROW
    else { return nil }
    applicationID = sqlite3_column_int(statement, 0)
  }

  /// Whether the database is a store, of whatever version.
  var isStore: Bool { applicationID == StoreFormat.applicationID }

  /// What has a meaning in a URI, escaped.
  private static func escaped(_ path: String) -> String {
    var result = ""
    for scalar in path.unicodeScalars {
      switch scalar {
      case "%": result += "%25"
      case "?": result += "%3f"
      case "#": result += "%23"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
