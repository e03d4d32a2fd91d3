import CSQLiteExtension
import SQLiteExtension
import VMCheckpoint

/// The functions of the SQL extension, which is a part of the command as well.
enum SQLFunctionLibrary {
  /// Gives them to every store that the command opens from here on.
  static func add() throws(VMCheckpointError) {
    let entryPoint:
      @convention(c) (
        OpaquePointer?, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
        UnsafePointer<sqlite3_api_routines>?
      ) -> CInt = { registerExtension($0, $1, $2) }
    // SQLite's declaration of what it calls has no parameters.
    try Store.addFunctions(unsafeBitCast(entryPoint, to: (@convention(c) () -> Void).self))
  }
}
