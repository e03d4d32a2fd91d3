/// The pages of a round that are looked for in packs, by SHA-256: each of them is found once.
///
/// Open addressing with linear probing over a dense array of entries, as ``PageTable``, and by the digests' first words,
/// which the remote's index has. 48 bytes a page, and 4 to 8 for its buckets.
struct WantedPages {
  /// A page by its chunk's number in the round.
  struct Page {
    var chunk: Int
    var slot: Int
  }

  private struct Entry {
    var digest: PageDigest
    var chunk: UInt32
    var slot: UInt8
    var isFound: Bool
  }

  private var entries: [Entry] = []
  /// Entry index + 1; 0 is empty.
  private var buckets: [UInt32]
  private let bucketMask: Int
  private(set) var leftCount = 0

  /// - Parameter capacity: As many pages may be added.
  init(capacity: Int) {
    var bucketCount = 64
    while bucketCount < capacity * 2 { bucketCount *= 2 }
    buckets = Array(repeating: 0, count: bucketCount)
    bucketMask = bucketCount - 1
    entries.reserveCapacity(capacity)
  }

  /// Adds a page. Of several with one digest the first is looked for.
  mutating func add(_ digest: PageDigest, chunk: Int, slot: Int) {
    precondition(entries.count < buckets.count / 2)
    var bucket = bucket(digest.prefix)
    while buckets[bucket] != 0 {
      if entries[Int(buckets[bucket] - 1)].digest == digest { return }
      bucket = (bucket + 1) & bucketMask
    }
    entries.append(
      Entry(digest: digest, chunk: UInt32(chunk), slot: UInt8(slot), isFound: false)
    )
    buckets[bucket] = UInt32(entries.count)
    leftCount += 1
  }

  /// The page with this digest, if it is looked for; from now on it is not.
  mutating func take(_ digest: PageDigest) -> Page? {
    var bucket = bucket(digest.prefix)
    while buckets[bucket] != 0 {
      let index = Int(buckets[bucket] - 1)
      if entries[index].digest == digest {
        guard !entries[index].isFound else { return nil }
        entries[index].isFound = true
        leftCount -= 1
        return Page(chunk: Int(entries[index].chunk), slot: Int(entries[index].slot))
      }
      bucket = (bucket + 1) & bucketMask
    }
    return nil
  }

  /// Whether a page is looked for whose digest begins so.
  func has(prefix: UInt64) -> Bool {
    var bucket = bucket(prefix)
    while buckets[bucket] != 0 {
      let entry = entries[Int(buckets[bucket] - 1)]
      if entry.digest.prefix == prefix, !entry.isFound { return true }
      bucket = (bucket + 1) & bucketMask
    }
    return false
  }

  private func bucket(_ prefix: UInt64) -> Int {
    Int(truncatingIfNeeded: prefix) & bucketMask
  }
}
