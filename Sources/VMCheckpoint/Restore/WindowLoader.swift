import GRDB

/// Chunks that a window has pages in.
final class WindowJob: @unchecked Sendable {
  let batch: ChunkBatch<Extent>
  var window: StreamWindows.Window?

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init() throws(VMCheckpointError) { batch = try ChunkBatch() }
}

/// The reading half of a ``StreamRestore``: finds what windows consist of, and hands it to workers.
struct WindowLoader {
  private let database: Database
  private let snapshot: SnapshotRow
  private let pool: WorkerPool<WindowJob>
  private let windows: StreamWindows
  private let clock: StageClock<RestoreStage>
  private let cancellation: CancellationFlag
  private let reader: ChunkReader
  private var extentReader: ExtentReader<HotStatement>
  private var extents: [Extent] = []
  /// The extents that begin in windows.
  private var tally = ExtentTally()
  /// The pages that windows have got.
  private var pageCount: UInt64 = 0

  init(
    _ database: Database,
    snapshot: SnapshotRow,
    pool: WorkerPool<WindowJob>,
    windows: StreamWindows,
    clock: StageClock<RestoreStage>,
    cancellation: CancellationFlag
  ) throws {
    self.database = database
    self.snapshot = snapshot
    self.pool = pool
    self.windows = windows
    self.clock = clock
    self.cancellation = cancellation
    reader = try ChunkReader(database)
    extentReader = try ExtentReader(database, snapshotID: snapshot.id)
  }

  /// Reads the chunks of a window, in short transactions, and lets workers put their pages into it.
  /// Its other pages are zero then.
  ///
  /// - Throws: ``VMCheckpointError``, a worker's too, or `DatabaseError`.
  mutating func load(_ window: StreamWindows.Window) throws {
    try database.inTransaction(.deferred) {
      try readExtents(firstPFN: window.firstPFN, endPFN: window.endPFN)
      return .commit
    }
    clearGaps(in: window)
    extents.sort { ($0.chunkID, $0.firstPFN) < ($1.chunkID, $1.firstPFN) }
    var rest = extents[...]
    while !rest.isEmpty {
      try cancellation.check()
      let job = try pool.takeFree()
      job.window = window
      try read(&rest, into: job.batch)
      windows.beginBatch(window)
      pool.submit(job)
    }
  }

  /// Checks that all of the snapshot's pages came by.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` when they did not, `notFound` when the snapshot was
  ///   deleted in the meantime; or `DatabaseError`.
  func checkComplete(comparesChecksums: Bool) throws {
    try tally.requireComplete(snapshot, comparesChecksums: comparesChecksums, database)
    guard pageCount != snapshot.storedPageCount else { return }
    throw VMCheckpointError(
      .corrupt,
      "\(snapshot.title) is damaged: it has pages outside its memory regions",
      hint: "see what is hurt with: vmckpt verify"
    )
  }

  private mutating func readExtents(firstPFN: UInt64, endPFN: UInt64) throws {
    extents.removeAll(keepingCapacity: true)
    // An extent that begins up to 15 pages before may reach in.
    let reach = UInt64(ExtentQuery.reach)
    try extentReader.rewind(
      toPFN: firstPFN < reach ? 0 : firstPFN - reach,
      through: endPFN - 1
    )
    while let extent = try extentReader.next() {
      if extent.endPFN > firstPFN { extents.append(extent) }
    }
  }

  /// Makes the pages zero that no extent has; counts the others.
  private mutating func clearGaps(in window: StreamWindows.Window) {
    var next = window.firstPFN
    func clear(upTo end: UInt64) {
      guard next < end else { return }
      window.pages(next..<end).initializeMemory(as: UInt8.self, repeating: 0)
    }
    for extent in extents {
      let pfns = extent.pfns(in: window)
      clear(upTo: pfns.lowerBound)
      next = pfns.upperBound
      pageCount += UInt64(pfns.count)
      if extent.firstPFN >= window.firstPFN { tally.add(extent) }
    }
    clear(upTo: window.endPFN)
  }

  /// Takes from `rest`, in order of chunk, what `batch` has room for.
  private func read(
    _ rest: inout ArraySlice<Extent>,
    into batch: ChunkBatch<Extent>
  ) throws {
    batch.removeAll()
    try database.inTransaction(.deferred) {
      while !batch.isFull, let first = rest.first {
        let uses = rest.prefix { $0.chunkID == first.chunkID }
        rest = rest[uses.endIndex...]
        batch.uses[batch.count].removeAll(keepingCapacity: true)
        batch.uses[batch.count].append(contentsOf: uses)
        if let problem = try batch.load(first.chunkID, with: reader, clock) {
          throw FileRestore.damaged([first], snapshot.title, problem)
        }
      }
      return .commit
    }
  }
}

extension Extent {
  /// Its PFNs that lie in the window, of which there is one at least.
  func pfns(in window: StreamWindows.Window) -> Range<UInt64> {
    max(firstPFN, window.firstPFN)..<min(endPFN, window.endPFN)
  }
}
