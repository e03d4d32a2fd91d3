import CSQLiteExtension
import VMCheckpointCore

/// A prepared statement on the host's connection. Column accessors check types: a store is hostile.
final class Statement: StoreStatement {
  private let database: OpaquePointer
  private var handle: OpaquePointer?

  /// Prepares `sql`, which may name no virtual table.
  ///
  /// - Parameter isPersistent: Whether it is kept for many uses.
  init(_ database: OpaquePointer, _ sql: String, isPersistent: Bool = false) throws {
    self.database = database
    let flags = SQLITE_PREPARE_NO_VTAB | (isPersistent ? SQLITE_PREPARE_PERSISTENT : 0)
    let code = vmx_prepare(database, sql, flags, &handle)
    guard code == SQLITE_OK, handle != nil else { throw SQLError(code: code, of: database) }
  }

  deinit { _ = vmx_finalize(handle) }

  func bind(_ value: Int64, at index: CInt) throws {
    try check(vmx_bind_int64(handle, index, value))
  }

  func bind(_ text: String, at index: CInt) throws {
    var text = text
    try check(
      text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) {
          vmx_bind_text(handle, index, $0.baseAddress, Int64($0.count))
        }
      }
    )
  }

  func bind(blob bytes: [UInt8], at index: CInt) throws {
    try check(
      bytes.withUnsafeBytes { vmx_bind_blob(handle, index, $0.baseAddress, Int64($0.count)) }
    )
  }

  /// Moves to the next row.
  ///
  /// - Throws: ``SQLError``, with `SQLITE_INTERRUPT` when the host interrupts.
  func step() throws -> Bool {
    switch vmx_step(handle) {
    case SQLITE_ROW: return true
    case SQLITE_DONE: return false
    case let code:
      let error = SQLError(code: code, of: database)
      reset()
      throw error
    }
  }

  /// Ends the statement's hold on the database. The next step begins anew.
  func reset() { _ = vmx_reset(handle) }

  func isNull(_ column: CInt) -> Bool { vmx_column_type(handle, column) == SQLITE_NULL }

  func integer(_ column: CInt) throws -> Int64 {
    guard vmx_column_type(handle, column) == SQLITE_INTEGER else {
      throw VMCheckpointError.wrongColumnType
    }
    return vmx_column_int64(handle, column)
  }

  /// A text of at most `maximumByteCount` bytes.
  func text(_ column: CInt, maximumByteCount: Int) throws -> String {
    guard vmx_column_type(handle, column) == SQLITE_TEXT else {
      throw VMCheckpointError.wrongColumnType
    }
    var count: CInt = 0
    let bytes = vmx_column_bytes(handle, column, &count)
    guard count <= maximumByteCount else {
      throw VMCheckpointError.longText(byteCount: Int(count))
    }
    guard count == 0 || bytes != nil else {
      throw SQLError(code: SQLITE_NOMEM, message: "out of memory")
    }
    return String(
      decoding: UnsafeRawBufferPointer(start: bytes, count: Int(count)),
      as: UTF8.self
    )
  }

  /// A BLOB's bytes, valid until the next step or reset.
  func blob(_ column: CInt) throws -> UnsafeRawBufferPointer {
    guard vmx_column_type(handle, column) == SQLITE_BLOB else {
      throw VMCheckpointError.wrongColumnType
    }
    var count: CInt = 0
    let bytes = vmx_column_bytes(handle, column, &count)
    guard count == 0 || bytes != nil else {
      throw SQLError(code: SQLITE_NOMEM, message: "out of memory")
    }
    return UnsafeRawBufferPointer(start: bytes, count: Int(count))
  }

  private func check(_ code: CInt) throws {
    guard code == SQLITE_OK else { throw SQLError(code: code, of: database) }
  }
}
