import Foundation
import GRDB

/// One copy: a snapshot of one store becomes one of another on the same machine.
///
/// The data's way: which chunks the snapshot has → which of their pages the other store has → the rest, as chunks →
/// the index → extents, device states, and the row that makes all of it count. A chunk goes over as it is when the
/// snapshot has all of its pages and the other store has none of them; else the pages that are missing are packed anew.
/// So every distinct page is stored once, and no page goes over that the snapshot does not have.
///
/// No transaction of the first store is open while the second is written. Its chunks' lock is held.
struct CopyOperation {
  /// Extents of the first store that are in memory at a time.
  private static let extentsPerRound = 16 << 10
  /// Chunks under way: 130 KiB each.
  private static let itemsPerThread = 16

  private let source: Database
  private let sourcePath: String
  private let database: Database
  private let snapshot: SnapshotRow
  private let name: String
  private let control: OperationControl
  private let firstChunkID: Int64

  private var numbers: ChunkNumbers
  private var storer: PageStorer
  private let writer: ChunkWriter
  private var places = CopiedPlaces()
  private var items: [CopiedChunks.Item] = []
  private var open: CopiedChunks.Item?
  private var uncommittedByteCount = 0
  private var progress: ProgressReporter

  /// What it did.
  struct Totals {
    /// Chunks that went over as they are.
    var wholeChunkCount: UInt64 = 0
    var copiedPageCount: UInt64 = 0
    /// Of the chunks that were written.
    var storedByteCount: UInt64 = 0
    /// Distinct pages of the snapshot that the other store had.
    var reusedPageCount: UInt64 = 0
  }
  private(set) var totals = Totals()

  /// - Parameters:
  ///   - source: The connection to the first store; its path is for messages.
  ///   - database: That to the second, whose writer's lock and chunks' lock the caller has.
  ///   - name: What the snapshot is called there.
  init(
    from source: Database,
    at sourcePath: String,
    to database: Database,
    _ snapshot: SnapshotRow,
    name: String,
    control: OperationControl
  ) throws {
    self.source = source
    self.sourcePath = sourcePath
    self.database = database
    self.snapshot = snapshot
    self.name = name
    self.control = control
    firstChunkID = try ChunkWriter.nextChunkID(database)
    numbers = ChunkNumbers(firstChunkID)
    storer = try PageStorer(database, newPageCapacity: control.newPageCapacity)
    writer = try ChunkWriter(database)
    progress = ProgressReporter(control, phase: "copying", totalByteCount: nil)
  }

  /// The chunks that have numbers, ascending: all that may be in the file.
  var newChunkIDs: [Int64] { Array(firstChunkID..<numbers.next) }

  /// - Parameter requireLocks: Throws when the locks that keep others away are not held any more.
  /// - Returns: The snapshot in the second store.
  /// - Throws: ``VMCheckpointError``: `corrupt` when the snapshot is damaged, `notFound` when it was deleted or has pages
  ///   that are not here, `cancelled`; `DatabaseError` of the second store.
  mutating func run(requireLocks: () throws -> Void) throws -> SnapshotRow {
    let layout = try reading { try snapshot.layout(source) }
    let absent = try reading { try snapshot.absentPages(source, in: layout) }
    let overlays = try reading {
      let overlays = try StoredOverlays(source, snapshot: snapshot, layout: layout)
      try snapshot.requireDigest(layout, absent, overlays, source)
      return overlays
    }
    let facts = try reading {
      try PushedFacts(source, snapshot, layout: layout, overlays: overlays)
        .facts(deviceStates: nil) { _ in nil }
    }
    // The store may be a stranger's.
    try facts.check()
    let used = try reading {
      try UsedChunks(of: snapshot, overlays, source, control.cancellation)
    }
    let imported = try ImportedSnapshot(database, facts, name: name)
    try copyChunks(used)
    let tally = try copyExtents(imported)
    try copyDeviceStates(facts, imported)
    return try imported.finish(
      tally,
      absent: absent,
      workingSet: workingSet(),
      contents: try overlays.entries.map { entry in
        try entry.contentsLocation.flatMap { numbers.location(of: try places.place(of: $0)) }
      },
      requireLocks: requireLocks
    )
  }

  /// Reads the first store. Errors name it, and not the second.
  private func reading<Result>(
    _ body: () throws -> Result
  ) throws(VMCheckpointError) -> Result {
    try translatingDatabaseErrors(storePath: sourcePath, body)
  }

  private func workingSet() throws -> [Range<UInt64>] {
    try reading {
      let table = WorkingSetTable(source)
      return try table.hasOwn(snapshot) ? table.workingSet(for: snapshot)?.runs ?? [] : []
    }
  }

  // MARK: Chunks

  private mutating func copyChunks(_ used: UsedChunks) throws {
    let total = UInt64(used.ids.count * ChunkFormat.byteCapacity)
    progress = ProgressReporter(control, phase: "copying", totalByteCount: total)
    let threadCount = control.threadCount
    items = try (0..<(threadCount * Self.itemsPerThread)).map { _ in try CopiedChunks.Item() }
    let chunks = CopiedChunks(
      fingerprinter: try StoreSeed(database).fingerprinter,
      title: snapshot.title
    )
    try WorkerPool<CopiedChunks.Item>.run(
      threadCount: threadCount,
      items: items,
      makeWorker: { () throws(VMCheckpointError) in try chunks.makeWorker() },
      produce: { pool in
        try copyChunks(used, pool)
        try flushNewPages(pool)
      }
    )
  }

  private mutating func copyChunks(
    _ used: UsedChunks,
    _ pool: WorkerPool<CopiedChunks.Item>
  ) throws {
    let (digests, reader, optimized) = try reading {
      (
        try DigestReader(source), try ChunkReader(source),
        try HotStatement(source, "SELECT optimized FROM chunk WHERE id = ?")
      )
    }
    let decoder = try LZ4FrameDecoder()
    let scratch = try ChunkBuffer()
    for (index, chunkID) in used.ids.enumerated() {
      if index % 16 == 0 {
        try control.cancellation.check()
        progress.report(completedByteCount: UInt64(index * ChunkFormat.byteCapacity))
      }
      let (slots, all) = (used.slots[index], try reading { try digests.all(chunkID) })
      guard slots >> all.count == 0 else {
        throw VMCheckpointError.corrupt("\(snapshot.title) names slots that chunk \(chunkID) lacks")
      }
      let missing = try findPages(chunkID, slots, all)
      guard missing != 0 else { continue }
      if storer.roomForNewPages < all.count { try flushNewPages(pool) }
      totals.copiedPageCount += UInt64(missing.nonzeroBitCount)
      if missing.nonzeroBitCount == all.count {
        let item = try takeFree(pool)
        try load(chunkID, into: item.chunk, reader)
        item.chunk.isOptimized = try reading { try Self.isOptimized(chunkID, optimized) }
        (item.work, item.sourceID) = (.prove, chunkID)
        let number = numbers.makeProvisional()
        item.chunk.chunkID = number
        for (slot, digest) in all.enumerated() {
          storer.note(digest, at: PageLocation(chunkID: number, slot: slot))
        }
        places.set(chunk: chunkID, at: number)
        totals.wholeChunkCount += 1
        pool.submit(item)
        continue
      }
      try load(chunkID, into: scratch, reader)
      if let problem = scratch.decompress(with: decoder, check: .digests) {
        throw CopiedChunks.damage(snapshot.title, chunkID, problem)
      }
      for slot in all.indices where missing & 1 << UInt16(slot) != 0 {
        try append(scratch.page(slot), all[slot], PageLocation(chunkID: chunkID, slot: slot), pool)
      }
    }
  }

  /// Finds those of a chunk's pages that the second store has, and notes where.
  ///
  /// - Returns: The slots of the others.
  private mutating func findPages(
    _ chunkID: Int64,
    _ slots: UInt16,
    _ digests: [PageDigest]
  ) throws -> UInt16 {
    var missing: UInt16 = 0
    for slot in digests.indices where slots & 1 << UInt16(slot) != 0 {
      let digest = digests[slot]
      let found: PageLocation?
      switch storer.knowledge(of: digest) {
      case .stored(let location): found = location
      case .new: found = nil
      case .unknown: found = try storer.lookUp(digest)
      }
      if let found {
        places.set(PageLocation(chunkID: chunkID, slot: slot), at: found)
        totals.reusedPageCount += 1
      } else {
        missing |= 1 << UInt16(slot)
      }
    }
    return missing
  }

  private func load(
    _ chunkID: Int64,
    into chunk: ChunkBuffer,
    _ reader: ChunkReader
  ) throws {
    if let problem = try reading({ try reader.load(chunkID, into: chunk) }) {
      throw CopiedChunks.damage(snapshot.title, chunkID, problem)
    }
  }

  private static func isOptimized(_ chunkID: Int64, _ select: HotStatement) throws -> Bool {
    select.bind(chunkID, at: 1)
    defer { select.reset() }
    return try select.step() && select.int64(0) == 1
  }

  /// Puts a page into the chunk of gathered pages.
  private mutating func append(
    _ page: UnsafeRawBufferPointer,
    _ digest: PageDigest,
    _ location: PageLocation,
    _ pool: WorkerPool<CopiedChunks.Item>
  ) throws {
    let item: CopiedChunks.Item
    if let open {
      item = open
    } else {
      item = try takeFree(pool)
      item.work = .compress
      item.chunk.begin(chunkID: numbers.makeProvisional())
      open = item
    }
    let place = item.chunk.append(page.baseAddress!, digest: digest)
    storer.note(digest, at: place)
    places.set(location, at: place)
    if item.chunk.isFull { submitOpen(pool) }
  }

  private mutating func submitOpen(_ pool: WorkerPool<CopiedChunks.Item>) {
    guard let item = open else { return }
    open = nil
    pool.submit(item)
  }

  /// An item to fill. What it held is written before.
  private mutating func takeFree(
    _ pool: WorkerPool<CopiedChunks.Item>
  ) throws -> CopiedChunks.Item {
    let item = try pool.takeFree()
    try write(item)
    return item
  }

  /// Writes the chunk of an item that is done.
  private mutating func write(_ item: CopiedChunks.Item) throws {
    guard item.isReady else { return }
    item.isReady = false
    item.chunk.chunkID = numbers.assign(to: item.chunk.chunkID)
    try begin()
    try writer.insert(item.chunk)
    totals.storedByteCount += UInt64(item.chunk.storedByteCount)
    uncommittedByteCount += item.chunk.storedByteCount
    if uncommittedByteCount >= ChunkWriter.batchByteLimit { try commit() }
  }

  /// Writes all chunks, and empties the table of new pages into the index, whose entries name places in the file.
  private mutating func flushNewPages(_ pool: WorkerPool<CopiedChunks.Item>) throws {
    submitOpen(pool)
    try pool.drain()
    for item in items { try write(item) }
    try begin()
    try storer.flushNewPages(database, numbers)
    try commit()
    try storer.mergeIndex(database, control.cancellation)
  }

  private func begin() throws {
    if !database.isInsideTransaction { try database.beginTransaction(.immediate) }
  }

  private mutating func commit() throws {
    if database.isInsideTransaction { try database.commit() }
    uncommittedByteCount = 0
  }

  // MARK: Extents

  /// - Returns: The tally of the extents that were written.
  private func copyExtents(_ imported: ImportedSnapshot) throws -> ExtentTally {
    var writer = try imported.extentWriter()
    var (digester, tally) = (RAMDigester(), ExtentTally())
    var extents: [(extent: Extent, digests: [PageDigest])] = []
    var nextPFN: UInt64? = 0
    while let firstPFN = nextPFN {
      try control.cancellation.check()
      nextPFN = try reading { try readExtents(from: firstPFN, into: &extents) }
      for (extent, digests) in extents {
        tally.add(extent)
        for index in 0..<Int(extent.pageCount) {
          let place = try places.place(of: extent.location(at: index))
          guard let location = numbers.location(of: place) else {
            throw VMCheckpointError(.corrupt, "an extent names a chunk that was not written")
          }
          let pfn = extent.firstPFN + UInt64(index)
          writer.add(pfn: pfn, at: location, digest: digests[index])
          digester.add(pfn: pfn, digest: digests[index])
        }
      }
      try database.inTransaction(.immediate) {
        _ = try writer.write(numbers, isEnd: nextPFN == nil)
        return .commit
      }
    }
    try reading { try tally.requireComplete(snapshot, source) }
    try imported.requireRAMDigest(digester.finalize())
    return writer.tally
  }

  /// Reads the next extents with the digests of their pages.
  ///
  /// - Returns: Where to go on; `nil` after the last.
  private func readExtents(
    from firstPFN: UInt64,
    into extents: inout [(extent: Extent, digests: [PageDigest])]
  ) throws -> UInt64? {
    extents.removeAll(keepingCapacity: true)
    var reader = try ExtentReader(
      source,
      snapshotID: snapshot.id,
      firstPFN: firstPFN,
      withChunks: true
    )
    defer { reader.reset() }
    while let extent = try reader.next() {
      let chunk = try reader.chunk(of: extent)
      guard extent.endSlot <= chunk.pageCount else {
        throw VMCheckpointError.corrupt("chunk \(extent.chunkID) lacks slots that an extent names")
      }
      let digests = (Int(extent.firstSlot)..<extent.endSlot).map {
        PageDigest(loadingFrom: chunk.digests.baseAddress! + $0 * PageDigest.byteCount)
      }
      extents.append((extent, digests))
      if extents.count == Self.extentsPerRound { return extent.endPFN }
    }
    return nil
  }

  // MARK: Device states

  private func copyDeviceStates(
    _ facts: ManifestFacts,
    _ imported: ImportedSnapshot
  ) throws {
    for (position, state) in facts.deviceStates.enumerated() {
      try control.cancellation.check()
      let data = try reading {
        try DeviceStateRow.provenData(of: snapshot, at: position, source)
      }
      try imported.insertDeviceState(at: position, state, data)
    }
  }
}
