import GRDB

/// Stores pages anew, in the order of a plan: reads and decodes the chunks that they are in, and lets
/// threads compress the new ones. No extent names these yet.
struct PageCopier {
  private let database: Database
  private let control: OperationControl
  private let chunkWriter: ChunkWriter
  private var decoded: DecodedChunks
  private var usage: ChunkUsage
  /// Where a page may be that an optimize has copied before it was killed; `nil` when there was none.
  private let index: PageIndex?
  private let fingerprinter: PageFingerprinter
  private let copied: PageTable

  private var job: ChunkJob?
  private var numbers: ChunkNumbers
  private let firstChunkID: Int64
  private var packer = RowPacker<ChunkJob>()
  private var uncommittedByteCount = 0

  /// The new chunks that have numbers, ascending.
  var newChunkIDs: [Int64] { Array(firstChunkID..<numbers.next) }

  private(set) var moves: PageMoves
  /// New chunks, and their compressed bytes.
  private(set) var chunkCount: UInt64 = 0
  private(set) var storedByteCount: UInt64 = 0
  /// Pages that were copied.
  private(set) var pageCount: UInt64 = 0
  /// How many of the pages it has come to; fewer than all when it took too long.
  private(set) var reachedCount = 0

  /// After this time a round ends where it is: saves are waiting, and they do so for a minute.
  private static let maximumSeconds = 20.0

  /// - Parameter looksForCopies: Whether chunks that are optimized already may hold some of the pages.
  init(
    _ database: Database,
    plan: OptimizePlan,
    usage: ChunkUsage,
    looksForCopies: Bool,
    control: OperationControl
  ) throws {
    self.database = database
    self.control = control
    self.usage = usage
    chunkWriter = try ChunkWriter(database)
    decoded = try DecodedChunks(database)
    index = looksForCopies ? try PageIndex(database) : nil
    fingerprinter = try PageFingerprinter(database)
    copied = try PageTable(capacity: OptimizePlan.maximumPageCount)
    firstChunkID = try ChunkWriter.nextChunkID(database)
    numbers = ChunkNumbers(firstChunkID)
    moves = PageMoves(of: plan)
  }

  /// Copies `pages`, in several transactions, and adds their new places to the page index.
  ///
  /// - Parameter progress: Called with the number of pages that are done, now and then.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; no extent names what was written.
  mutating func copy(_ pages: [PageLocation], progress: (Int) -> Void) throws {
    try CompressionLine.run(
      threadCount: control.threadCount,
      effort: .optimize,
      fingerprinter: fingerprinter
    ) { line in
      let deadline = MonotonicClock.nowSeconds + Self.maximumSeconds
      for (number, source) in pages.enumerated() {
        if number % 64 == 0 {
          try control.cancellation.check()
          progress(number)
          if MonotonicClock.nowSeconds > deadline, chunkCount > 0 { break }
        }
        try add(source, line)
        reachedCount += 1
      }
      if let last = job { line.submit(last) }
      job = nil
      while let done = line.takeDone(waits: true) { try pack(done, line) }
      try writePacked(line, isEnd: true)
    }
    try commit()
    moves.settleTargets(numbers)
    let entries = copied.removeAllSorted(numbers)
    try database.inTransaction(.immediate) {
      try PageIndex.append(entries, to: database)
      return .commit
    }
  }

  private mutating func add(_ source: PageLocation, _ line: CompressionLine) throws {
    // A page that cannot be read stays where it is, for verify to report.
    guard let chunk = try decoded.chunk(source.chunkID), source.slot < chunk.pageCount else {
      return
    }
    let digest = chunk.digest(source.slot)
    if let copy = try existingCopy(of: digest) {
      moves.set(copy, for: source)
      return
    }
    // Looking for a copy may have taken its buffer.
    guard let chunk = try decoded.chunk(source.chunkID) else { return }
    let job = try self.job ?? beginJob(line)
    let target = job.chunk.append(chunk.page(source.slot).baseAddress!, digest: digest)
    job.sources.append(source)
    copied.insert(digest, at: target)
    moves.set(target, for: source)
    guard job.chunk.isFull else {
      self.job = job
      return
    }
    self.job = nil
    line.submit(job)
    while let done = line.takeDone(waits: false) { try pack(done, line) }
  }

  /// Where the page is that this round, or an optimize that was killed, has copied already.
  private mutating func existingCopy(of digest: PageDigest) throws -> PageLocation? {
    if let location = copied.location(of: digest) { return location }
    guard let index else { return nil }
    let location = try index.location(of: digest) { location in
      usage.index(of: location.chunkID).map { usage.isOptimized[$0] } ?? false
    }
    // The page that is about to go may be the only good one.
    guard let location, let chunk = try decoded.chunk(location.chunkID),
      location.slot < chunk.pageCount, PageDigest(of: chunk.page(location.slot)) == digest
    else { return nil }
    return location
  }

  private mutating func beginJob(_ line: CompressionLine) throws -> ChunkJob {
    while true {
      if let job = line.takeFree() {
        job.chunk.begin(chunkID: numbers.makeProvisional())
        job.chunk.isOptimized = true
        job.sources.removeAll(keepingCapacity: true)
        return job
      }
      guard let done = line.takeDone(waits: true) else {
        throw VMCheckpointError(.inputOutput, "chunk buffers were lost")
      }
      try pack(done, line)
    }
  }

  /// Takes the next compressed chunk, and writes the one that fits best.
  private mutating func pack(_ job: ChunkJob, _ line: CompressionLine) throws {
    guard job.damagedSlots == 0 else {
      // Its pages stay where they are, the good ones as well: one has bytes that nobody saved.
      line.giveBack(job)
      return
    }
    packer.add(job, storedByteCount: job.chunk.storedByteCount)
    try writePacked(line, isEnd: false)
  }

  private mutating func writePacked(_ line: CompressionLine, isEnd: Bool) throws {
    while let job = packer.next(isEnd: isEnd) {
      job.chunk.chunkID = numbers.assign(to: job.chunk.chunkID)
      try write(job.chunk)
      line.giveBack(job)
    }
  }

  private mutating func write(_ chunk: ChunkBuffer) throws {
    if !database.isInsideTransaction { try database.beginTransaction(.immediate) }
    try chunkWriter.insert(chunk)
    chunkCount += 1
    pageCount += UInt64(chunk.pageCount)
    storedByteCount += UInt64(chunk.storedByteCount)
    uncommittedByteCount += chunk.storedByteCount
    if uncommittedByteCount >= ChunkWriter.batchByteLimit { try commit() }
  }

  private mutating func commit() throws {
    guard database.isInsideTransaction else { return }
    try database.commit()
    uncommittedByteCount = 0
  }
}
