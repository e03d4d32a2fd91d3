import Foundation
import GRDB

/// What a save reads RAM from, and what it makes of it.
struct SaveSource {
  var reader: any RAMReader
  var substitution: UnderlaySubstitution
  var compression: ChunkCompression
  /// Called before each window is read, by several threads; what it throws ends the save.
  var check: (@Sendable () throws(VMCheckpointError) -> Void)?
}

/// One save, from the snapshot's first row to its last; runs on the thread that has the
/// connection, with the writer's lock and the shared chunk lock held.
///
/// What is written in which order, and why a crash at any point leaves a sound store, is stated in
/// the DocC article "Ordering".
struct SaveOperation {
  /// 24 MiB of guest memory: one window for each of the most workers, and some that wait.
  private static let maximumWindowCount = 24
  /// 32 MiB: 16 chunks, each with its compressed form, for each of the most workers.
  private static let maximumChunkCount = 256

  /// How long a transaction stays open while the source gives nothing.
  private static let patienceSeconds = 0.2

  private let database: Database
  private let transaction: LongTransaction
  private let source: SaveSource
  private let control: OperationControl
  private let snapshotID: Int64

  private let clock: StageClock<SaveStage>
  private let exchange: SaveExchange
  private let fingerprinter: PageFingerprinter
  private let parent: ParentPages?
  private let chunkWriter: ChunkWriter
  private var storer: PageStorer
  private var extents: ExtentWriter
  private var batch: SaveBatch
  private var ramDigester = RAMDigester()
  private var progress: ProgressReporter

  /// What ``store(_:)`` has spent on waiting for chunks and on writing them.
  private var freeingSeconds = 0.0
  private var openChunk: ChunkBuffer?
  /// For chunks that no worker is free to compress.
  private let compressor: ChunkCompressor
  private var numbers: ChunkNumbers
  private let firstChunkID: Int64
  private var packer = RowPacker<ChunkBuffer>()
  private var newStoredByteCount: UInt64 = 0

  init(
    _ database: Database,
    transaction: LongTransaction,
    source: SaveSource,
    snapshotID: Int64,
    snapshotUUID: String,
    parentID: Int64?,
    seen: SeenPages? = nil,
    phase: String = "saving",
    clock: StageClock<SaveStage>,
    control: OperationControl
  ) throws {
    self.clock = clock
    self.database = database
    self.transaction = transaction
    self.source = source
    self.control = control
    self.snapshotID = snapshotID
    firstChunkID = try ChunkWriter.nextChunkID(database)
    numbers = ChunkNumbers(firstChunkID)
    chunkWriter = try ChunkWriter(database)
    compressor = try ChunkCompressor(source.compression.effort)
    storer = try PageStorer(database, newPageCapacity: control.newPageCapacity)
    let seed = try StoreSeed(database)
    fingerprinter = seed.fingerprinter
    parent = try parentID.map { try ParentPages(database, snapshotID: $0) }
    extents = try ExtentWriter(
      database,
      snapshotID: snapshotID,
      key: seed.extentChecksum.key(ofSnapshot: snapshotUUID),
      checksums: seed.extentChecksum
    )
    exchange = try SaveExchange(
      windowCount: min(control.threadCount * 4 + 8, Self.maximumWindowCount),
      chunkCount: min(control.threadCount * 64 + 128, Self.maximumChunkCount),
      parent: parent,
      fingerprinter: fingerprinter,
      seen: seen,
      clock: clock
    )
    batch = SaveBatch(
      database,
      transaction: transaction,
      exchange: exchange,
      clock: clock
    )
    progress = ProgressReporter(
      control,
      phase: phase,
      totalByteCount: source.reader.totalByteCount
    )
  }

  /// The chunks that have numbers, ascending: all that may be in the file.
  var newChunkIDs: [Int64] { Array(firstChunkID..<numbers.next) }

  /// What the snapshot's row is completed with.
  struct Totals {
    var layout: RAMLayout
    var plan: OverlayPlan
    var facts: MachineFacts
    /// Of all extents.
    var tally: ExtentTally
    var newPageCount: UInt64
    var newStoredByteCount: UInt64
    var digest: [UInt8]
    /// What the transaction that is left open has of them.
    var uncommittedByteCount: Int
  }

  /// Stores RAM, overlays and device state, and leaves a transaction open that the caller
  /// completes the snapshot in.
  ///
  /// - Parameter candidates: What was stored of RAM before the guest was stopped. Its pages count as new ones.
  mutating func run(
    _ prepared: PreparedSave,
    candidates: CandidatePages?
  ) throws -> Totals {
    try transaction.writingBack { try storeRAM() }
    let layout = try source.reader.finalLayout()
    let plan = try prepared.guest.overlays.validated(in: layout)
    for warning in prepared.guest.substitution.warnings() { control.onWarning?(warning) }
    if let warning = prepared.guest.absentUnderlayWarning(plan.stacks.map(\.pfn)) {
      control.onWarning?(warning)
    }
    let contents = try storeOverlayContents(plan)
    try writeLastExtents()
    let rows = SnapshotRows(database, snapshotID: snapshotID)
    var digester = SnapshotDigester()
    let ramDigest = ramDigester.finalize()
    try rows.insert(layout, digester: &digester)
    digester.add(ramDigest: ramDigest)
    try rows.insert(prepared.guest.absent, digester: &digester)
    let facts = MachineFacts(plan, guestOSID: prepared.guest.overlays.guestOSID)
    facts.add(to: &digester)
    try rows.insert(plan, contents: contents, digester: &digester)
    if let origin = prepared.guest.overlayOrigin { try rows.insert(overlayOrigin: origin) }
    try rows.insert(prepared.guest.deviceStates, digester: &digester)
    let digest = digester.finalize()
    var new = NewPages(pageCount: storer.newPageCount, storedByteCount: newStoredByteCount)
    if let candidates {
      new = try NewPages(
        of: snapshotID,
        from: candidates.firstChunkID,
        to: numbers.next,
        alsoNamed: contents.values.map(\.chunkID),
        database
      )
    }
    let totals = Totals(
      layout: layout,
      plan: plan,
      facts: facts,
      tally: extents.tally,
      newPageCount: new.pageCount,
      newStoredByteCount: new.storedByteCount,
      digest: digest,
      uncommittedByteCount: batch.chunkByteCount
    )
    try rows.complete(
      SnapshotRows.Completion(
        completedAt: UTCTime.now,
        guestOSID: facts.guestOSID,
        cpuVendor: facts.cpuVendor,
        tscFrequencyHz: facts.tscFrequencyHz,
        ramByteCount: layout.byteCount,
        tally: totals.tally,
        newPageCount: totals.newPageCount,
        newStoredByteCount: totals.newStoredByteCount,
        ramDigest: Data(ramDigest),
        digest: Data(digest)
      )
    )
    return totals
  }

  /// Stores RAM alone, and commits it. The snapshot stays unfinished.
  mutating func runCandidates() throws {
    try transaction.writingBack { try storeRAM() }
    try writeLastExtents()
    try transaction.commit()
  }

  private mutating func writeLastExtents() throws {
    try batch.beginIfNeeded()
    _ = try extents.write(numbers, isEnd: true)
    if extents.pendingCount > 0 {
      throw VMCheckpointError(.corrupt, "an extent names a chunk that was not written")
    }
    try storer.flushNewPages(database, numbers)
  }

  // MARK: RAM

  private mutating func storeRAM() throws {
    // Before the workers start: they would hash what they could compare.
    try parent?.loadAhead()
    let (exchange, source) = (exchange, source)
    let workers = try WorkerThreads(count: control.threadCount) { exchange.work(source) }
    // Without a thread to spare the coordinator commits itself.
    let committer = try? WorkerThreads(count: 1) { exchange.makeCommits() }
    if committer != nil { exchange.setHasCommitter() }
    defer {
      exchange.close()
      workers.join()
      committer?.join()
    }
    try coordinate()
  }

  private mutating func coordinate() throws {
    while true {
      try control.cancellation.check()
      let event = try exchange.nextEvent(
        patienceSeconds: batch.isOpen ? Self.patienceSeconds : nil
      )
      switch event {
      case nil:
        // A source that pauses, such as a pipe, must not keep others from writing.
        try startCommit()
      case .compressed(let chunk):
        try pack(chunk)
      case .scanned(let window):
        try store(window)
        progress.report(completedByteCount: window.sourceEndOffset)
        exchange.giveBack(window)
      case .endOfRAM:
        try writeOpenChunks()
        try batch.awaitCommit()
        return
      }
    }
  }

  private mutating func store(_ window: RAMWindow) throws {
    freeingSeconds = 0
    let (start, before) = (MonotonicClock.nowSeconds, extents.storedPageCount)
    try followParent(to: window)
    for index in 0..<window.pageCount where !window.isZero[index] {
      let digest = window.digests[index]
      let pfn = window.firstPFN + UInt64(index)
      let location: PageLocation
      if window.knownLocations[index] != 0 {
        location = PageLocation(packed: window.knownLocations[index])
      } else if window.isAsSeen[index] {
        throw VMCheckpointError(
          .corrupt,
          "the page at PFN \(hexString(pfn)), which was stored while the guest ran, is not in the store any more",
          hint: "look at the disk, run vmckpt verify, and save again"
        )
      } else {
        location =
          try storedLocation(of: digest)
          ?? add(UnsafeRawPointer(window.page(index).baseAddress!), digest)
      }
      extents.add(pfn: pfn, at: location, digest: digest)
      ramDigester.add(pfn: pfn, digest: digest)
    }
    clock.add(
      .lookUp,
      seconds: MonotonicClock.nowSeconds - start - freeingSeconds,
      byteCount: Int(extents.storedPageCount - before) * Page.byteCount
    )
    if extents.pendingCount >= ExtentWriter.pendingLimit { try writeExtents() }
  }

  /// Where a page is stored that is not the parent's, if it is; waits for a commit only to ask the
  /// database.
  private mutating func storedLocation(of digest: PageDigest) throws -> PageLocation? {
    switch storer.knowledge(of: digest) {
    case .stored(let location): return location
    case .new: return nil
    case .unknown:
      // A page before may have filled a batch.
      try batch.awaitCommit()
      return try storer.lookUp(digest)
    }
  }

  /// Keeps the parent's pages loaded ahead of the windows. For a window that came too early, looks for
  /// unchanged pages now, so that what a save stores does not depend on which thread was faster.
  private mutating func followParent(to window: RAMWindow) throws {
    guard let parent else { return }
    parent.drop(below: window.firstPFN)
    if !window.isMatched {
      try batch.awaitCommit()
      if !parent.isLoaded(through: window.endPFN) { try parent.loadAhead() }
      parent.matchDigests(window)
    } else if parent.isLow, !batch.mayBeCommitting {
      try parent.loadAhead()
    }
  }

  /// Puts a page of new content into the open chunk.
  private mutating func add(
    _ page: UnsafeRawPointer,
    _ digest: PageDigest
  ) throws -> PageLocation {
    if storer.mustFlush { try flushNewPages() }
    let chunk: ChunkBuffer
    if let openChunk {
      chunk = openChunk
    } else {
      chunk = try freeChunk()
      chunk.begin(chunkID: numbers.makeProvisional())
      openChunk = chunk
    }
    let location = chunk.append(page, digest: digest)
    storer.note(digest, at: location)
    if chunk.isFull { try sealOpenChunk() }
    return location
  }

  private mutating func freeChunk() throws -> ChunkBuffer {
    if let chunk = exchange.takeFreeChunk() { return chunk }
    let start = MonotonicClock.nowSeconds
    defer { freeingSeconds += MonotonicClock.nowSeconds - start }
    // All are under way, more of them than wait to be packed.
    while true {
      guard let chunk = try exchange.nextCompressed(with: compressor) else {
        throw VMCheckpointError(.inputOutput, "chunk buffers were lost")
      }
      try pack(chunk)
      if let chunk = exchange.takeFreeChunk() { return chunk }
    }
  }

  private mutating func sealOpenChunk() throws {
    guard let chunk = openChunk else { return }
    openChunk = nil
    exchange.submit(chunk)
  }

  /// Empties the full table of new pages into the index.
  private mutating func flushNewPages() throws {
    // Index entries are sorted, and name places in the file.
    try writeOpenChunks()
    try batch.beginIfNeeded()
    try storer.flushNewPages(database, numbers)
    _ = try extents.write(numbers, isEnd: false)
    extents.settle(numbers)
    numbers.forget()
    try batch.startCommit()
    try batch.awaitCommit()
    try storer.mergeIndex(database, control.cancellation)
  }

  // MARK: Writing

  /// Takes the next compressed chunk, and writes the one that fits best.
  private mutating func pack(_ chunk: ChunkBuffer) throws {
    packer.add(chunk, storedByteCount: chunk.storedByteCount)
    try writePacked(isEnd: false)
  }

  private mutating func writePacked(isEnd: Bool) throws {
    while let chunk = packer.next(isEnd: isEnd) {
      chunk.chunkID = numbers.assign(to: chunk.chunkID)
      try write(chunk)
      exchange.giveBack(chunk)
    }
  }

  /// Writes all chunks that have pages, the open one as well.
  private mutating func writeOpenChunks() throws {
    try sealOpenChunk()
    while let chunk = try exchange.nextCompressed(with: compressor) { try pack(chunk) }
    try writePacked(isEnd: true)
  }

  private mutating func write(_ chunk: ChunkBuffer) throws {
    try batch.beginIfNeeded()
    try clock.measure(.write, byteCount: chunk.storedByteCount) { try chunkWriter.insert(chunk) }
    newStoredByteCount += UInt64(chunk.storedByteCount)
    batch.add(chunkByteCount: chunk.storedByteCount)
    if batch.isFull { try writeExtents() }
  }

  /// Writes what extents can be written, and ends the batch when it is full.
  private mutating func writeExtents() throws {
    try batch.beginIfNeeded()
    let rowCount = try clock.measure(.write) {
      try extents.write(numbers, isEnd: false)
    }
    batch.add(rowCount: rowCount)
    if batch.isFull { try startCommit() }
  }

  /// Lets the batch be committed, with the parent's pages loaded that windows will want meanwhile.
  private mutating func startCommit() throws {
    if let parent, parent.isLow, !batch.mayBeCommitting { try parent.loadAhead() }
    try batch.startCommit()
  }

  // MARK: Overlay contents

  /// Stores the pages of guest-writable overlays like pages of RAM, all of which are written by now; a
  /// zero page is not stored.
  private mutating func storeOverlayContents(
    _ plan: OverlayPlan
  ) throws -> [PageContents: PageLocation] {
    var locations: [PageContents: PageLocation] = [:]
    let chunk = try ChunkBuffer()
    chunk.begin(chunkID: numbers.next)
    for overlay in plan.stacks.lazy.flatMap(\.overlays) where overlay.kind.storesContents {
      let contents = overlay.contents()
      guard !contents.isZero, locations[contents] == nil else { continue }
      let digest = contents.withUnsafeBytes { PageDigest(of: $0) }
      if let location = try storedLocation(of: digest) {
        locations[contents] = numbers.location(of: location)
        continue
      }
      if storer.mustFlush {
        try writeOverlayChunk(chunk)
        try flushNewPages()
      }
      let location = contents.withUnsafeBytes { chunk.append($0.baseAddress!, digest: digest) }
      storer.note(digest, at: location)
      locations[contents] = location
      if chunk.isFull { try writeOverlayChunk(chunk) }
    }
    try writeOverlayChunk(chunk)
    return locations
  }

  /// Writes the chunk if it has pages, and begins the next.
  private mutating func writeOverlayChunk(_ chunk: ChunkBuffer) throws {
    guard chunk.pageCount > 0 else { return }
    let compressor = try ChunkCompressor(source.compression.effort)
    chunk.compress(with: compressor, fingerprinter)
    chunk.chunkID = numbers.takeNext()
    try write(chunk)
    chunk.begin(chunkID: numbers.next)
  }
}
