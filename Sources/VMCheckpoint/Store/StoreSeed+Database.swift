import GRDB

extension StoreSeed {
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the store has none, or
  ///   `DatabaseError`.
  init(_ database: Database) throws {
    self = try StoreReader(database).seed()
  }
}

extension PageFingerprinter {
  /// With the store's seed.
  ///
  /// - Throws: As ``StoreSeed``.
  init(_ database: Database) throws {
    self = try StoreSeed(database).fingerprinter
  }
}
