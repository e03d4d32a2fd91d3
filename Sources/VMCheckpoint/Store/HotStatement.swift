package import GRDB
import GRDBSQLite

/// A prepared statement for loops: binds and reads columns through SQLite's own functions, with
/// no allocation per step.
///
/// Not thread-safe, like the connection that it belongs to. Blobs are bound without a copy, so
/// the bytes must stay valid until the next ``reset()``; every method that steps a writing
/// statement resets it before it returns.
package struct HotStatement {
  private let statement: Statement
  fileprivate let handle: OpaquePointer

  /// Prepares `sql`.
  package init(_ database: Database, _ sql: String) throws {
    self.statement = try database.makeStatement(sql: sql)
    self.handle = statement.sqliteStatement
  }

  /// Binds the parameter at `index`, counted from 1.
  package func bind(_ value: Int64, at index: Int32) {
    sqlite3_bind_int64(handle, index, value)
  }

  /// Binds `bytes` without copying them.
  package func bind(_ bytes: UnsafeRawBufferPointer, at index: Int32) {
    sqlite3_bind_blob64(handle, index, bytes.baseAddress, UInt64(bytes.count), nil)
  }

  /// Binds a string constant without copying it.
  func bind(_ text: StaticString, at index: Int32) {
    sqlite3_bind_text(handle, index, text.utf8Start, Int32(text.utf8CodeUnitCount), nil)
  }

  /// Steps a query: `true` when there is a row to read.
  ///
  /// - Throws: `DatabaseError`; the statement is reset then.
  package func step() throws -> Bool {
    switch sqlite3_step(handle) {
    case SQLITE_ROW: return true
    case SQLITE_DONE: return false
    default: throw failure()
    }
  }

  /// Runs a statement that returns no rows, and resets it.
  ///
  /// - Throws: `DatabaseError`; the statement is reset then.
  package func run() throws {
    guard sqlite3_step(handle) == SQLITE_DONE else { throw failure() }
    sqlite3_reset(handle)
  }

  /// Makes the statement ready to be bound and stepped anew; ends its read.
  package func reset() {
    sqlite3_reset(handle)
  }

  /// The integer in `column`, counted from 0.
  func int64(_ column: Int32) -> Int64 {
    sqlite3_column_int64(handle, column)
  }

  /// The bytes in `column`, valid until the next step or reset.
  func withBlob<Result, Failure: Error>(
    _ column: Int32,
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let pointer = sqlite3_column_blob(handle, column)
    let byteCount = Int(sqlite3_column_bytes(handle, column))
    return try body(UnsafeRawBufferPointer(start: pointer, count: pointer == nil ? 0 : byteCount))
  }

  /// Whether the text in `column` is `text`.
  func text(_ column: Int32, equals text: StaticString) -> Bool {
    let byteCount = Int(sqlite3_column_bytes(handle, column))
    guard byteCount == text.utf8CodeUnitCount, let bytes = sqlite3_column_text(handle, column)
    else { return false }
    return UnsafeBufferPointer(start: bytes, count: byteCount)
      .elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: byteCount))
  }

  fileprivate func failure() -> DatabaseError {
    let connection = sqlite3_db_handle(handle)
    let error = DatabaseError(
      resultCode: ResultCode(rawValue: sqlite3_extended_errcode(connection)),
      message: String(cString: sqlite3_errmsg(connection))
    )
    sqlite3_reset(handle)
    return error
  }
}

extension HotStatement: StoreStatement {
  package func bind(_ text: String, at index: Int32) throws {
    var text = text
    let code = text.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) {
        sqlite3_bind_text(handle, index, $0.baseAddress, Int32($0.count), Self.copied)
      }
    }
    guard code == SQLITE_OK else { throw failure() }
  }

  /// `SQLITE_TRANSIENT`.
  private static let copied = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

  package func isNull(_ column: Int32) -> Bool {
    sqlite3_column_type(handle, column) == SQLITE_NULL
  }

  package func integer(_ column: Int32) throws -> Int64 {
    guard sqlite3_column_type(handle, column) == SQLITE_INTEGER else {
      throw VMCheckpointError.wrongColumnType
    }
    return sqlite3_column_int64(handle, column)
  }

  package func text(_ column: Int32, maximumByteCount: Int) throws -> String {
    guard sqlite3_column_type(handle, column) == SQLITE_TEXT else {
      throw VMCheckpointError.wrongColumnType
    }
    let bytes = sqlite3_column_text(handle, column)
    let byteCount = Int(sqlite3_column_bytes(handle, column))
    guard byteCount <= maximumByteCount else {
      throw VMCheckpointError.longText(byteCount: byteCount)
    }
    // Memory ran out.
    guard bytes != nil else { throw failure() }
    return String(decoding: UnsafeBufferPointer(start: bytes, count: byteCount), as: UTF8.self)
  }

  package func blob(_ column: Int32) throws -> UnsafeRawBufferPointer {
    guard sqlite3_column_type(handle, column) == SQLITE_BLOB else {
      throw VMCheckpointError.wrongColumnType
    }
    let bytes = sqlite3_column_blob(handle, column)
    let byteCount = Int(sqlite3_column_bytes(handle, column))
    guard byteCount == 0 || bytes != nil else { throw failure() }
    return UnsafeRawBufferPointer(start: bytes, count: byteCount)
  }
}

extension Database: StoreDatabase {
  package func storeStatement(_ sql: String, isPersistent: Bool) throws -> HotStatement {
    try HotStatement(self, sql)
  }

  package var changeCount: Int64 { Int64(totalChangesCount) }
}
