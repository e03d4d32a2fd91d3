/// How pages that were read are proved to be the right ones.
package enum PageCheck: Sendable {
  /// By their SHA-256s. That the extents name the right ones, ``SnapshotVerifier`` has proved before.
  case digests
  /// By their fingerprints: 64 bits for each page, 15 times as fast. Extents are proved by their checksums
  /// then, which tie them to SHA-256s (``ExtentCheck``). Where fingerprints do not agree they may be wrong themselves, being
  /// hints, or of another seed: then the SHA-256s decide.
  case quick(StoreSeed)
}

/// How extents of one snapshot are proved to name the pages that they were written for.
package struct ExtentCheck: Sendable {
  private let checksums: ExtentChecksum?
  private let key: SnapshotKey

  package init(_ checksums: ExtentChecksum, key: SnapshotKey) {
    self.checksums = checksums
    self.key = key
  }

  /// - Parameters:
  ///   - seed: `nil` where ``SnapshotVerifier`` proves the extents.
  ///   - uuid: The snapshot's.
  package init(_ seed: StoreSeed?, snapshot uuid: String) {
    checksums = seed?.extentChecksum
    key = checksums?.key(ofSnapshot: uuid) ?? SnapshotKey(value: 0)
  }

  /// As `check` proves pages.
  package init(_ check: PageCheck, snapshot uuid: String) {
    if case .quick(let seed) = check {
      self.init(seed, snapshot: uuid)
    } else {
      self.init(nil, snapshot: uuid)
    }
  }

  /// What is wrong with `extent` as one that names pages of `chunk`, if anything is.
  package func problem(of extent: Extent, in chunk: ChunkBuffer) -> String? {
    problem(of: extent, pageCount: chunk.pageCount, digests: UnsafeRawBufferPointer(chunk.digests))
  }

  /// What is wrong with `extent` as one that names pages of a chunk, if anything is.
  ///
  /// - Parameter digests: At least 32 bytes for each of the chunk's `pageCount` pages.
  package func problem(
    of extent: Extent,
    pageCount: Int,
    digests: UnsafeRawBufferPointer
  ) -> String? {
    guard extent.endSlot <= pageCount else {
      return "it has \(pageCount) pages, and the extent names \(extent.endSlot)"
    }
    guard let checksums else { return nil }
    let checksum = checksums.checksum(
      key,
      firstPFN: extent.firstPFN,
      pageCount: Int(extent.pageCount),
      digests: digests.baseAddress! + Int(extent.firstSlot) * PageDigest.byteCount
    )
    return checksum == extent.checksum ? nil : Extent.wrongChecksum
  }
}

extension Extent {
  /// What is wrong with an extent whose pages do not have its checksum.
  package static let wrongChecksum = "the extent was written for other pages than it names"
}
