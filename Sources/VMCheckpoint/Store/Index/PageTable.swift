/// Pages of known location in memory: digest → location, by full digest. A save keeps those in one
/// that it has stored and that no sorted run holds yet.
///
/// Open addressing with linear probing over a dense array of entries; memory is fixed.
final class PageTable {
  /// 512 Ki pages, 2 GiB of new guest memory: 20 MiB of entries and 4 MiB of buckets. A full
  /// table becomes a sorted run.
  static let defaultCapacity = 512 << 10

  struct Entry {
    var digest: PageDigest
    var location: PageLocation
  }

  let capacity: Int
  private let entries: UnsafeMutablePointer<Entry>
  private let entryMemory: UnsafeMutableRawBufferPointer
  /// Entry index + 1; 0 is empty. Twice as many as entries, a power of two.
  private let buckets: UnsafeMutableBufferPointer<UInt32>
  private let bucketMask: Int
  private(set) var count = 0

  /// - Parameter capacity: A power of two.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(capacity: Int = defaultCapacity) throws(VMCheckpointError) {
    precondition(capacity > 0 && capacity & (capacity - 1) == 0 && capacity < 1 << 31)
    self.capacity = capacity
    let bucketCount = capacity * 2
    bucketMask = bucketCount - 1
    let buckets = try LargeMemory.allocate(bucketCount, of: UInt32(0))
    do throws(VMCheckpointError) {
      entryMemory = try LargeMemory.allocate(byteCount: capacity * MemoryLayout<Entry>.stride)
    } catch {
      LargeMemory.free(buckets)
      throw error
    }
    self.buckets = buckets
    entries = entryMemory.bindMemory(to: Entry.self).baseAddress!
  }

  deinit {
    LargeMemory.free(entryMemory)
    LargeMemory.free(buckets)
  }

  var isFull: Bool { count == capacity }

  /// - Complexity: O(1) on average. SHA-256 spreads the keys; a guest that grinds colliding
  ///   prefixes can slow its own save only.
  func location(of digest: PageDigest) -> PageLocation? {
    var bucket = Self.bucket(digest, bucketMask)
    while buckets[bucket] != 0 {
      let entry = entries + Int(buckets[bucket] - 1)
      if entry.pointee.digest == digest { return entry.pointee.location }
      bucket = (bucket + 1) & bucketMask
    }
    return nil
  }

  /// Adds a digest that is not in the table.
  ///
  /// - Precondition: The table is not full.
  func insert(_ digest: PageDigest, at location: PageLocation) {
    precondition(!isFull)
    entries[count] = Entry(digest: digest, location: location)
    count += 1
    var bucket = Self.bucket(digest, bucketMask)
    while buckets[bucket] != 0 { bucket = (bucket + 1) & bucketMask }
    buckets[bucket] = UInt32(count)
  }

  func removeAll() {
    count = 0
    buckets.update(repeating: 0)
  }

  /// Hands out the entries as index entries in their order, by their chunks' numbers, and empties the
  /// table. Entries whose chunk has none are left out: it was not written.
  func removeAllSorted(_ numbers: ChunkNumbers) -> [IndexEntry] {
    var sorted = [IndexEntry]()
    sorted.reserveCapacity(count)
    for index in 0..<count {
      guard let location = numbers.location(of: entries[index].location) else { continue }
      sorted.append(IndexEntry(prefix: entries[index].digest.prefix, location: location))
    }
    sorted.sort()
    removeAll()
    return sorted
  }

  /// The index runs are ordered by the first word, so that the last serves here.
  private static func bucket(_ digest: PageDigest, _ mask: Int) -> Int {
    Int(truncatingIfNeeded: digest.words.3) & mask
  }
}

/// One entry of the page index: the first eight bytes of a page's digest, and where it is stored.
package struct IndexEntry: Comparable {
  /// In the file 16 bytes: prefix and packed location, both big-endian.
  static let byteCount = 16

  /// The first eight bytes of the page's digest.
  package var prefix: UInt64
  /// Where the page is stored.
  package var location: PageLocation

  /// An entry for the page with this prefix at `location`.
  package init(prefix: UInt64, location: PageLocation) {
    self.prefix = prefix
    self.location = location
  }

  init(loadingFrom pointer: UnsafeRawPointer) {
    prefix = UInt64(bigEndian: pointer.loadUnaligned(as: UInt64.self))
    location = PageLocation(
      packed: UInt64(bigEndian: pointer.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    )
  }

  func store(to pointer: UnsafeMutableRawPointer) {
    pointer.storeBytes(of: prefix.bigEndian, as: UInt64.self)
    pointer.storeBytes(of: location.packed.bigEndian, toByteOffset: 8, as: UInt64.self)
  }

  package static func < (lhs: Self, rhs: Self) -> Bool {
    (lhs.prefix, lhs.location.packed) < (rhs.prefix, rhs.location.packed)
  }
}
