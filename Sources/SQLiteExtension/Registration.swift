public import CSQLiteExtension

/// Makes all functions known to `database`: what the extension's entry points do.
///
/// - Returns: `SQLITE_OK`, or the code of the failure, with `errorMessage` set.
public func registerExtension(
  _ database: OpaquePointer?,
  _ errorMessage: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ api: UnsafePointer<sqlite3_api_routines>?
) -> CInt {
  guard let database, let api else { return SQLITE_ERROR }
  guard vmx_initialize(api) == SQLITE_OK else { return SQLITE_ERROR }
  do {
    let connection = Connection(database)
    for table in SQLFunctions.tables { try table.register(connection) }
    for function in SQLFunctions.scalars { try function.register(connection) }
    return SQLITE_OK
  } catch {
    let error = SQLError(error)
    errorMessage?.pointee = vmx_copy_string(error.message)
    return error.code
  }
}
