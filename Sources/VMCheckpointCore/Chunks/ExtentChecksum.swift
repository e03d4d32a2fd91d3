import CXXHash

/// Ties stored pages to the place that they were written for: what `ram_extent.checksum` holds, and,
/// summed over a snapshot's extents, `snapshot.ram_checksum`.
///
/// Each page has a term: a 64-bit XXH3, keyed by the store's seed, of these 48 bytes.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     8  the snapshot's key, little-endian
///          8     8  the page's PFN, little-endian
///         16    32  the SHA-256 of the page
///
/// A snapshot's key is the XXH3, with the same seed, of its UUID as 36 characters: copies of a store have the
/// same seed, and give the same ids to other snapshots.
///
/// A checksum is the sum of its pages' terms modulo 2^64. So an extent's changes when it names
/// another chunk, slot, PFN or snapshot; a lost extent is missing in the snapshot's sum; and the sum
/// stays as it is when extents are split or joined, or their pages move to other chunks.
///
/// It finds damage, and numbers that mean another chunk by now. It does not protect against somebody who
/// can write the store, where the seed is. A guest does not know the seed, and so cannot look for
/// pages whose terms agree.
package struct ExtentChecksum: Sendable {
  private let seed: UInt64

  package init(seed: UInt64) {
    self.seed = seed
  }

  /// The number that represents the snapshot with this UUID in a checksum.
  package func key(ofSnapshot uuid: String) -> SnapshotKey {
    var uuid = uuid
    return uuid.withUTF8 {
      SnapshotKey(value: XXH3_64bits_withSeed($0.baseAddress, $0.count, seed))
    }
  }

  /// The term of one page, whose SHA-256 is at `digest`, which needs no alignment.
  @inline(__always)
  package func term(_ snapshot: SnapshotKey, pfn: UInt64, digest: UnsafeRawPointer) -> UInt64 {
    func word(_ index: Int) -> UInt64 {
      digest.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
    }
    var input = (
      snapshot.value.littleEndian, pfn.littleEndian, word(0), word(1), word(2), word(3)
    )
    return withUnsafeBytes(of: &input) {
      XXH3_64bits_withSeed($0.baseAddress, $0.count, seed)
    }
  }

  /// The term of one page.
  package func term(_ snapshot: SnapshotKey, pfn: UInt64, digest: PageDigest) -> UInt64 {
    withUnsafeTemporaryAllocation(byteCount: PageDigest.byteCount, alignment: 8) { bytes in
      digest.store(to: bytes.baseAddress!)
      return term(snapshot, pfn: pfn, digest: bytes.baseAddress!)
    }
  }

  /// The checksum of `pageCount` pages from `firstPFN` on, whose SHA-256s follow each other at
  /// `digests`.
  package func checksum(
    _ snapshot: SnapshotKey,
    firstPFN: UInt64,
    pageCount: Int,
    digests: UnsafeRawPointer
  ) -> UInt64 {
    var sum: UInt64 = 0
    for index in 0..<pageCount {
      sum &+= term(
        snapshot,
        pfn: firstPFN + UInt64(index),
        digest: digests + index * PageDigest.byteCount
      )
    }
    return sum
  }
}

/// A snapshot's UUID as terms have it.
package struct SnapshotKey: Sendable {
  package let value: UInt64

  package init(value: UInt64) {
    self.value = value
  }
}
