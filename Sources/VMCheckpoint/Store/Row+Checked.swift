import GRDB

extension Row {
  /// The value in `column`.
  ///
  /// GRDB's subscripts end the process when a value is not of the type asked for. In a store that
  /// is damaged or hostile it need not be: STRICT binds only those who write through SQLite.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`. Its message leaves out the value,
  ///   which may be a guest's memory.
  func value<Value: DatabaseValueConvertible>(
    _ column: String
  ) throws(VMCheckpointError) -> Value {
    do {
      return try decode(Value.self, forColumn: column)
    } catch {
      throw Self.damaged(column)
    }
  }

  /// As ``value(_:)``, without a search for the column: for rows by the thousand.
  ///
  /// - Parameter index: The place of the column in the row, counted from 0.
  func value<Value: DatabaseValueConvertible>(
    at index: Int
  ) throws(VMCheckpointError) -> Value {
    do {
      return try decode(Value.self, atIndex: index)
    } catch {
      throw Self.damaged(Array(columnNames)[index])
    }
  }

  /// As ``value(at:)``, of a column that may be NULL.
  func optionalValue<Value: DatabaseValueConvertible>(
    at index: Int
  ) throws(VMCheckpointError) -> Value? {
    hasNull(atIndex: index) ? nil : try value(at: index)
  }

  private static func damaged(_ column: String) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "a row is damaged: column \(column) holds a value of another type",
      hint: "see what is hurt with: vmckpt verify"
    )
  }
}
