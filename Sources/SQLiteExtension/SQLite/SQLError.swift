import CSQLiteExtension
import VMCheckpointCore

/// What a function reports to SQLite. Messages are one line and hold no guest memory.
struct SQLError: Error {
  /// A result code of SQLite, such as `SQLITE_CORRUPT`.
  var code: CInt
  var message: String
  /// Whether it is about a snapshot that is being saved or deleted: a table has no rows for one.
  var isUnfinishedSnapshot = false

  /// The caller's arguments make no sense.
  static func misuse(_ message: String) -> SQLError {
    SQLError(code: SQLITE_ERROR, message: message)
  }

  /// The store is damaged.
  static func corrupt(_ message: String) -> SQLError {
    SQLError(code: SQLITE_CORRUPT, message: "\(message); see what is hurt with: vmckpt verify")
  }

  /// Any error that the extension's code throws.
  init(_ error: any Error) {
    switch error {
    case let error as SQLError: self = error
    case let error as VMCheckpointError:
      self.init(
        code: error.code == .corrupt ? SQLITE_CORRUPT : SQLITE_ERROR,
        message: error.description
      )
    default: self.init(code: SQLITE_ERROR, message: "\(error)")
    }
  }

  init(code: CInt, message: String) {
    self.code = code
    self.message = message
  }

  /// The failure that `database` reports for its last call.
  init(code: CInt, of database: OpaquePointer) {
    let message = vmx_error_message(database).map { String(cString: $0) } ?? "unknown error"
    self.init(code: code, message: message)
  }
}
