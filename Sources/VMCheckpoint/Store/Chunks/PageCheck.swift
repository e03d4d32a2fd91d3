import GRDB

/// How pages that were read are proved to be the right ones.
enum PageCheck: Sendable {
  /// By their SHA-256s. That the extents name the right ones, ``SnapshotVerifier`` has proved before.
  case digests
  /// Extents by their checksums, which tie them to SHA-256s, and pages by their fingerprints: 64 bits
  /// for each page, 15 times as fast. Where fingerprints do not agree they may be wrong themselves, being
  /// hints, or of another seed: then the SHA-256s decide.
  case quick(StoreSeed)

  /// - Parameter verifyingDigests: Whether it must be the SHA-256s, which need no seed.
  /// - Throws: As ``StoreSeed``.
  init(_ database: Database, verifyingDigests: Bool) throws {
    self = verifyingDigests ? .digests : .quick(try StoreSeed(database))
  }

  /// What is wrong with `extent` as one of the snapshot's that names pages of `chunk`, if anything is.
  func problem(of extent: Extent, snapshotID: Int64, in chunk: ChunkBuffer) -> String? {
    guard extent.endSlot <= chunk.pageCount else {
      return "it has \(chunk.pageCount) pages, and the extent names \(extent.endSlot)"
    }
    guard case .quick(let seed) = self else { return nil }
    let digests = UnsafeRawPointer(chunk.digests.baseAddress!)
    let checksum = seed.extentChecksum.checksum(
      snapshotID: snapshotID,
      firstPFN: extent.firstPFN,
      pageCount: Int(extent.pageCount),
      digests: digests + Int(extent.firstSlot) * PageDigest.byteCount
    )
    return checksum == extent.checksum ? nil : Extent.wrongChecksum
  }
}

extension Extent {
  /// What is wrong with an extent whose pages do not have its checksum.
  static let wrongChecksum = "the extent was written for other pages than it names"
}
