import GRDB
import VMCheckpoint

/// Gives benchmarks a store whose page index grows to any size: pages by made-up digests, without
/// data and without a snapshot that names them.
///
/// One thread at a time. The store is good for nothing else: its chunks cannot be read.
package final class IndexScaleProbe {
  private let queue: DatabaseQueue
  private let seed: UInt64
  package private(set) var pageCount = 0
  private var pending: [IndexEntry] = []

  /// Makes a store at `path`, which must not exist.
  package init(path: String, seed: UInt64) throws {
    _ = try Store.openOrCreate(at: path)
    queue = try StoreConnection.open(location: StoreLocation(path), busy: BusyPolicy()).queue
    self.seed = seed
  }

  /// Adds `count` pages as a save does, in three steps: chunk rows with the pages' digests, which a
  /// lookup compares; then ``append()``, the run of their entries; then ``merge()``.
  package func insertChunks(_ count: Int) throws {
    try queue.write { database in
      pending += try insertChunks(pageCount..<(pageCount + count), database)
    }
    pageCount += count
  }

  /// Writes the run of the pages that ``insertChunks(_:)`` has added.
  package func append() throws {
    pending.sort()
    try queue.write { try PageIndex.append(pending, to: $0) }
    pending.removeAll(keepingCapacity: true)
  }

  /// Merges runs of like size.
  package func merge() throws {
    try queue.writeWithoutTransaction {
      try IndexMerge.mergeRunsOfLikeSize($0, CancellationFlag())
    }
  }

  /// Looks up `count` pages, spread over all that are there, or as many that are not.
  ///
  /// - Parameter clock: Tells seconds.
  /// - Returns: How many were found, and the seconds that took: with the filters unread at first, and
  ///   again.
  package func lookUp(
    _ count: Int,
    present: Bool,
    clock: () -> Double
  ) throws -> (foundCount: Int, firstSeconds: Double, againSeconds: Double) {
    // A stride that is coprime to the count comes by all pages, in no order.
    let stride = 982_451_653 % max(1, pageCount) | 1
    let digests = (0..<count).map { index in
      present
        ? digest(ofPage: (index &* stride) % max(1, pageCount))
        : digest(ofPage: Int.max - index)
    }
    return try queue.read { database in
      let start = clock()
      let index = try PageIndex(database)
      func lookUpAll() throws -> Int {
        var foundCount = 0
        for digest in digests where try index.location(of: digest) != nil { foundCount += 1 }
        return foundCount
      }
      let foundCount = try lookUpAll()
      let first = clock()
      _ = try lookUpAll()
      return (foundCount, first - start, clock() - first)
    }
  }

  /// The entry counts of the active runs, the largest first.
  package func runSizes() throws -> [UInt64] {
    try queue.read { try IndexRun.fetchActive($0).map(\.entryCount).sorted(by: >) }
  }

  private func insertChunks(_ pages: Range<Int>, _ database: Database) throws -> [IndexEntry] {
    let insert = try HotStatement(
      database,
      """
      INSERT INTO chunk (id, page_count, stored_bytes, encoding, digests, fingerprints)
      VALUES (?1, ?2, 1, 'raw', ?3, zeroblob(?2 * 8))
      """
    )
    var chunkID = try ChunkWriter.nextChunkID(database)
    var entries: [IndexEntry] = []
    entries.reserveCapacity(pages.count)
    var digests = [UInt8](
      repeating: 0,
      count: ChunkFormat.pageCapacity * PageDigest.byteCount
    )
    var first = pages.lowerBound
    while first < pages.upperBound {
      let end = min(first + ChunkFormat.pageCapacity, pages.upperBound)
      try digests.withUnsafeMutableBytes { bytes in
        for page in first..<end {
          let (slot, digest) = (page - first, digest(ofPage: page))
          digest.store(to: bytes.baseAddress! + slot * PageDigest.byteCount)
          entries.append(
            IndexEntry(
              prefix: digest.prefix,
              location: PageLocation(chunkID: chunkID, slot: slot)
            )
          )
        }
        insert.bind(chunkID, at: 1)
        insert.bind(Int64(end - first), at: 2)
        insert.bind(
          UnsafeRawBufferPointer(rebasing: bytes[..<((end - first) * PageDigest.byteCount)]),
          at: 3
        )
        try insert.run()
      }
      chunkID += 1
      first = end
    }
    return entries
  }

  private func digest(ofPage page: Int) -> PageDigest {
    var state = seed &+ UInt64(bitPattern: Int64(page)) &* 0x9E37_79B9_7F4A_7C15
    func next() -> UInt64 {
      // SplitMix64.
      state &+= 0x9E37_79B9_7F4A_7C15
      var value = state
      value = (value ^ value &>> 30) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ value &>> 27) &* 0x94D0_49BB_1331_11EB
      return value ^ value &>> 31
    }
    return PageDigest(words: (next(), next(), next(), next()))
  }
}
