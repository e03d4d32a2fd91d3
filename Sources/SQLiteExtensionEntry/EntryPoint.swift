public import CSQLiteExtension
import SQLiteExtension

/// What `.load ./vmckpt` calls: SQLite makes the name from the file's, `vmckpt.so`.
@_cdecl("sqlite3_vmckpt_init")
public func vmckptInit(
  _ database: OpaquePointer?,
  _ errorMessage: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ api: UnsafePointer<sqlite3_api_routines>?
) -> CInt {
  registerExtension(database, errorMessage, api)
}

/// What `.load .build/release/libvmckptext` calls: SQLite leaves out `lib`.
@_cdecl("sqlite3_vmckptext_init")
public func vmckptextInit(
  _ database: OpaquePointer?,
  _ errorMessage: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ api: UnsafePointer<sqlite3_api_routines>?
) -> CInt {
  registerExtension(database, errorMessage, api)
}
