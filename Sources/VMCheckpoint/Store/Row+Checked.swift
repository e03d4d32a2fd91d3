import GRDB

extension Row {
  /// The value in `column`.
  ///
  /// GRDB's subscripts end the process when a value is not of the type asked for. In a store that
  /// is damaged or hostile it need not be: STRICT binds only those who write through SQLite.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`. The value is not told: it may be a
  ///   guest's memory.
  func value<Value: DatabaseValueConvertible>(
    _ column: String
  ) throws(VMCheckpointError) -> Value {
    do {
      return try decode(Value.self, forColumn: column)
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "a row is damaged: column \(column) holds a value of another type",
        hint: "see what is hurt with: vmckpt verify"
      )
    }
  }
}
