import GRDB

/// Collects a snapshot's pages into extents and writes those whose chunks are written.
struct ExtentWriter {
  /// Extents kept before they are written; bounds memory for RAM that is all duplicates.
  static let pendingLimit = 64 << 10

  private let insert: HotStatement
  private let snapshotID: Int64
  private let checksums: ExtentChecksum
  private let key: SnapshotKey
  private var current: Extent?
  private var pending: [Extent] = []
  /// The extents that no page can be added to any more.
  private(set) var tally = ExtentTally()
  /// Pages added so far.
  private(set) var storedPageCount: UInt64 = 0

  init(
    _ database: Database,
    snapshotID: Int64,
    key: SnapshotKey,
    checksums: ExtentChecksum
  ) throws {
    self.snapshotID = snapshotID
    self.key = key
    self.checksums = checksums
    insert = try HotStatement(
      database,
      """
      INSERT INTO ram_extent
        (snapshot_id, first_pfn, page_count, chunk_id, first_slot, checksum)
      VALUES (?, ?, ?, ?, ?, ?)
      """
    )
  }

  var pendingCount: Int { pending.count }

  /// Adds a page with its SHA-256; PFNs must ascend.
  mutating func add(pfn: UInt64, at location: PageLocation, digest: PageDigest) {
    storedPageCount += 1
    let term = checksums.term(key, pfn: pfn, digest: digest)
    if let extent = current {
      if extent.isContinued(by: pfn, at: location) {
        current?.pageCount += 1
        current?.checksum &+= term
        return
      }
      finish(extent)
    }
    current = Extent(
      firstPFN: pfn,
      chunkID: location.chunkID,
      firstSlot: UInt8(location.slot),
      pageCount: 1,
      checksum: term
    )
  }

  /// Inserts, in the caller's transaction, the extents whose chunks are written, which are those with a
  /// number. The others stay; there are no more of them than chunks under way have pages.
  ///
  /// - Parameter isEnd: Whether no page will be added any more; ``tally`` has all extents then.
  /// - Returns: How many were inserted.
  mutating func write(_ numbers: ChunkNumbers, isEnd: Bool) throws -> Int {
    if isEnd, let extent = current {
      finish(extent)
      current = nil
    }
    var kept = 0
    insert.bind(snapshotID, at: 1)
    for index in pending.indices {
      let extent = pending[index]
      guard let chunkID = numbers.number(of: extent.chunkID) else {
        pending[kept] = extent
        kept += 1
        continue
      }
      insert.bind(Int64(extent.firstPFN), at: 2)
      insert.bind(Int64(extent.pageCount), at: 3)
      insert.bind(chunkID, at: 4)
      insert.bind(Int64(extent.firstSlot), at: 5)
      insert.bind(Int64(bitPattern: extent.checksum), at: 6)
      try insert.run()
    }
    let written = pending.count - kept
    pending.removeSubrange(kept...)
    return written
  }

  /// Gives the extent that may go on its chunk's number, before provisional ones are forgotten.
  mutating func settle(_ numbers: ChunkNumbers) {
    guard let chunkID = current?.chunkID else { return }
    current?.chunkID = numbers.number(of: chunkID) ?? chunkID
  }

  private mutating func finish(_ extent: Extent) {
    tally.add(extent)
    pending.append(extent)
  }
}
