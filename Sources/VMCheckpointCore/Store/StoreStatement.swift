/// A store's database as ``StoreReader`` needs it, of whichever SQLite the process has: the library reaches it
/// through GRDB, the extension through its host's functions.
package protocol StoreDatabase {
  associatedtype Statement: StoreStatement

  /// Prepares `sql`, which names tables of the database `main`.
  ///
  /// - Parameter isPersistent: Whether the statement is kept for many uses.
  func storeStatement(_ sql: String, isPersistent: Bool) throws -> Statement

  /// Grows with each change that this connection makes.
  var changeCount: Int64 { get }
}

/// A prepared statement. Not thread-safe, like the connection that it belongs to.
///
/// Column accessors check types: a store is hostile. They throw ``VMCheckpointError`` with the code `corrupt`
/// for a value of another type.
package protocol StoreStatement {
  /// Binds the parameter at `index`, counted from 1.
  func bind(_ value: Int64, at index: Int32) throws

  /// Binds a copy of `text`.
  func bind(_ text: String, at index: Int32) throws

  /// Moves to the next row: `true` when there is one. After an error the statement is reset.
  func step() throws -> Bool

  /// Ends the statement's hold on the database. The next step begins anew.
  func reset()

  /// Whether the value in `column`, counted from 0, is NULL.
  func isNull(_ column: Int32) -> Bool

  func integer(_ column: Int32) throws -> Int64

  /// A text of at most `maximumByteCount` bytes.
  func text(_ column: Int32, maximumByteCount: Int) throws -> String

  /// A BLOB's bytes, valid until the next step or reset.
  func blob(_ column: Int32) throws -> UnsafeRawBufferPointer
}

extension StoreStatement {
  package func text(_ column: Int32) throws -> String {
    try text(column, maximumByteCount: 4096)
  }

  package func optionalInteger(_ column: Int32) throws -> Int64? {
    isNull(column) ? nil : try integer(column)
  }
}

extension VMCheckpointError {
  /// Whether the data that was read is wrong. Otherwise reading it failed, as when memory ran out.
  package var isDamage: Bool { code == .corrupt || code == .invalidData }

  /// The store is damaged.
  package static func corrupt(_ message: String) -> VMCheckpointError {
    VMCheckpointError(.corrupt, message, hint: "see what is hurt with: vmckpt verify")
  }

  /// A column has a value that the format's schema does not allow there.
  package static let wrongColumnType = VMCheckpointError.corrupt(
    "the store is damaged: a column has a value of the wrong type"
  )

  /// A text is longer than any of the format.
  package static func longText(byteCount: Int) -> VMCheckpointError {
    .corrupt("the store is damaged: a text has \(byteCount) bytes")
  }
}
