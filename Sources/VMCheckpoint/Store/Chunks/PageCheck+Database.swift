import GRDB

extension PageCheck {
  /// - Parameter verifyingDigests: Whether it must be the SHA-256s, which need no seed.
  /// - Throws: As ``StoreSeed``.
  init(_ database: Database, verifyingDigests: Bool) throws {
    self = verifyingDigests ? .digests : .quick(try StoreSeed(database))
  }
}
