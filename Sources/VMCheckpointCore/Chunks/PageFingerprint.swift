import CXXHash

/// Shows cheaply whether a page is still what its snapshot's parent has at the same PFN: a seeded
/// 64-bit XXH3, 15 times as fast as SHA-256. ``PageCheck`` uses it as well to check what was read.
///
/// Why a save may rely on it: it is asked about one pair of pages only, a VM's page and that VM's
/// own page in the parent. Content that is shared between PFNs or VMs is found by SHA-256 alone. Two
/// different pages agree with a probability of 2⁻⁶⁴, less than that of a disk returning wrong bytes
/// unnoticed. The seed is random, made with the store and never shown to a guest, so a guest cannot
/// look for pages that agree; and one that were lucky would harm its own snapshot alone.
///
/// Source: xxHash, https://github.com/Cyan4973/xxHash
package struct PageFingerprinter: Sendable {
  /// 8; little-endian in the file.
  package static let byteCount = 8

  private let seed: UInt64

  package init(seed: UInt64) {
    self.seed = seed
  }

  /// The fingerprint of the 4096 bytes at `page`, which needs no alignment.
  package func fingerprint(of page: UnsafeRawPointer) -> UInt64 {
    XXH3_64bits_withSeed(page, Page.byteCount, seed)
  }

  /// The first of the pages in `pages` that does not have its fingerprint in `fingerprints`, which has
  /// at least as many.
  package func firstMismatch(
    _ pages: UnsafeRawBufferPointer,
    _ fingerprints: UnsafeRawBufferPointer
  ) -> Int? {
    for slot in 0..<(pages.count / Page.byteCount) {
      let stored = fingerprints.loadUnaligned(
        fromByteOffset: slot * Self.byteCount,
        as: UInt64.self
      )
      let page = pages.baseAddress! + slot * Page.byteCount
      if UInt64(littleEndian: stored) != fingerprint(of: page) { return slot }
    }
    return nil
  }
}
