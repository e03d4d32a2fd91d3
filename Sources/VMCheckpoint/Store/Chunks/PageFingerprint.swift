import CXXHash
import GRDB

/// Tells cheaply whether a page is still what its snapshot's parent has at the same PFN: a seeded
/// 64-bit XXH3, 15 times as fast as SHA-256. ``PageCheck`` checks with it as well what was read.
///
/// Why a save may rely on it: it is asked about one pair of pages only, a VM's page and that VM's
/// own page in the parent. Content that is shared between PFNs or VMs is found by SHA-256 alone. Two
/// different pages agree with a probability of 2⁻⁶⁴, less than that of a disk returning wrong bytes
/// unnoticed. The seed is random, made with the store and never shown to a guest, so a guest cannot
/// look for pages that agree; and one that were lucky would harm its own snapshot alone.
///
/// Source: xxHash, https://github.com/Cyan4973/xxHash
struct PageFingerprinter: Sendable {
  /// 8; little-endian in the file.
  static let byteCount = 8

  private let seed: UInt64

  init(seed: UInt64) {
    self.seed = seed
  }

  /// With the store's seed.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the store has none, or
  ///   `DatabaseError`.
  init(_ database: Database) throws {
    let sql = "SELECT fingerprint_seed FROM store WHERE id = 1"
    guard let seed = try Int64.fetchOne(database, sql: sql) else {
      throw VMCheckpointError(.corrupt, "the store is damaged: its row in store is missing")
    }
    self.init(seed: UInt64(bitPattern: seed))
  }

  /// The fingerprint of the 4096 bytes at `page`, which needs no alignment.
  func fingerprint(of page: UnsafeRawPointer) -> UInt64 {
    XXH3_64bits_withSeed(page, Page.byteCount, seed)
  }
}
