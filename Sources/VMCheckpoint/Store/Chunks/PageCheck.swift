import GRDB

/// What pages that were read are compared with.
enum PageCheck: Sendable {
  /// Their SHA-256s, and a frame with its checksum.
  case digests
  /// Their fingerprints: 64 bits for each page, 15 times as fast. Where these do not agree they may be
  /// wrong themselves, being hints, or of another seed: then it is as with ``digests``. Without
  /// fingerprints a frame's checksum will do, or the SHA-256s of a raw chunk, which has no checksum.
  case quick(PageFingerprinter?)

  /// - Parameter verifyingDigests: Whether it must be the SHA-256s.
  init(_ database: Database, verifyingDigests: Bool) {
    // A store without its row in `store`, where the seed is, is told by `verify`; pages are pages.
    self = verifyingDigests ? .digests : .quick(try? PageFingerprinter(database))
  }
}
