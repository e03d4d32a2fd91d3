import GRDB

extension StoreSeed {
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the store has none, or
  ///   `DatabaseError`.
  init(_ database: Database) throws {
    let row = try Row.fetchOne(
      database,
      sql: "SELECT fingerprint_seed FROM store WHERE id = 1"
    )
    guard let row else {
      throw VMCheckpointError(
        .corrupt,
        "the store is damaged: its row in store is missing",
        hint: "restore what is needed with: vmckpt restore --verify"
      )
    }
    self.init(value: UInt64(bitPattern: try row.value(at: 0) as Int64))
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
