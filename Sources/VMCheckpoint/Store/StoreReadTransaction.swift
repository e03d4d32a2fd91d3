import GRDB
import GRDBSQLite

/// A read transaction of a connection of its own, for as long as the object lives: SQLite's shared lock
/// keeps every writer from committing.
///
/// It takes the place of a shared ``StoreLock`` where a lock file can neither be found nor made, as on a
/// file system that is mounted read-only. Others may have the same one mounted for writing.
final class StoreReadTransaction: @unchecked Sendable {
  // Used by one thread at a time: first by the one that takes the lock, last by `deinit`.
  private let connection: OpaquePointer?
  private let storePath: String

  /// Opens the store, and locks nothing yet.
  ///
  /// - Throws: ``VMCheckpointError`` as ``Store/open(at:for:cancellation:)``.
  init(_ location: StoreLocation) throws(VMCheckpointError) {
    storePath = location.given
    var opened: OpaquePointer?
    let code = sqlite3_open_v2(
      WriteCombiningVFS.name(forPath: location.file),
      &opened,
      SQLITE_OPEN_READONLY,
      nil
    )
    connection = opened
    guard code == SQLITE_OK else { throw error(code) }
  }

  deinit { sqlite3_close_v2(connection) }

  /// Begins the transaction. `false` when somebody is committing.
  func attempt() throws(VMCheckpointError) -> Bool {
    // The lock comes with the first read.
    var code = sqlite3_exec(
      connection,
      "BEGIN; SELECT count(*) FROM sqlite_schema",
      nil,
      nil,
      nil
    )
    if code == SQLITE_OK { return true }
    code = sqlite3_extended_errcode(connection)
    sqlite3_exec(connection, "ROLLBACK", nil, nil, nil)
    guard code & 0xff != SQLITE_BUSY else { return false }
    throw error(code)
  }

  private func error(_ code: Int32) -> VMCheckpointError {
    VMCheckpointError(
      DatabaseError(resultCode: ResultCode(rawValue: code)),
      storePath: storePath
    )
  }
}
