import GRDBSQLite

extension Store {
  /// Gives SQL functions to every store that this process opens from here on.
  ///
  /// - Parameter entryPoint: That of a SQLite extension, which is linked and not loaded:
  ///   `int f(sqlite3 *, char **, const sqlite3_api_routines *)`.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package static func addFunctions(
    _ entryPoint: @convention(c) () -> Void
  ) throws(VMCheckpointError) {
    guard sqlite3_auto_extension(entryPoint) == SQLITE_OK else {
      throw VMCheckpointError(.outOfResources, "out of memory", hint: "end other programs")
    }
  }
}
