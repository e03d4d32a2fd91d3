/// Where a save's workers and its coordinator hand each other windows and chunks.
///
/// ```
///            free windows            scanned windows, in order
///   ┌──────────────────────┐      ┌──────────────────────────┐
///   ▼                      │      │                          ▼
/// workers: read → substitute → scan → match → hash    coordinator: look up,
/// workers: compress ◀── chunks to compress ───────── pack, write to SQLite
///   │                                                        ▲
///   └────────── compressed chunks, in order ─────────────────┘
/// committer: commit ◀── a full batch ──────────────── coordinator
/// ```
/// Both kinds of buffers go round and are bounded in number, and so is memory. Workers compress
/// before they read on, so that chunks never wait for windows: the coordinator, which may wait
/// for a chunk buffer, can always be served.
///
/// While the committer waits for the disk, the coordinator goes on with windows that need nothing of
/// the database: their pages are the parent's, or new. Chunks wait for the committer compressed.
final class SaveExchange: @unchecked Sendable {
  /// What the coordinator is to do next.
  enum Event {
    /// The next chunk in order is ready to be written.
    case compressed(ChunkBuffer)
    /// The next window in order is ready to be looked up.
    case scanned(RAMWindow)
    /// All windows were handed out, and no commit is under way.
    case endOfRAM
  }

  private enum Work {
    case compress(ChunkBuffer)
    case scan(RAMWindow)
  }

  private enum Commit {
    case none
    case requested(@Sendable () throws -> Void)
    case running
    case failed(any Error)

    var isUnderWay: Bool {
      switch self {
      case .none, .failed: false
      case .requested, .running: true
      }
    }
  }

  private static var workAvailable: Monitor.Condition { .init(0) }
  private static var resultAvailable: Monitor.Condition { .init(1) }
  private static var commitRequested: Monitor.Condition { .init(2) }

  private let monitor = Monitor(conditionCount: 3)

  // Guarded by `monitor`.
  private var freeWindows: [RAMWindow]
  private var freeChunks: [ChunkBuffer]
  private var chunksToCompress: [ChunkBuffer] = []
  private var scanned: [Int: RAMWindow] = [:]
  private var nextScanned = 0
  private var windowsInWork = 0
  /// In order of submission; the first may be handed out once it is marked.
  private var submittedChunks: [(chunk: ChunkBuffer, isCompressed: Bool)] = []
  private var sourceEnded = false
  private var commit = Commit.none
  private var hasCommitter = false
  private var isClosed = false
  private var failure: VMCheckpointError?

  private let clock: StageClock<SaveStage>
  private let parent: ParentPages?
  private let fingerprinter: PageFingerprinter
  /// `nil`: nobody wants to know later.
  private let seen: SeenPages?

  init(
    windowCount: Int,
    chunkCount: Int,
    parent: ParentPages?,
    fingerprinter: PageFingerprinter,
    seen: SeenPages?,
    clock: StageClock<SaveStage>
  ) throws(VMCheckpointError) {
    self.parent = parent
    self.seen = seen
    self.fingerprinter = fingerprinter
    self.clock = clock
    freeWindows = try (0..<windowCount).map { _ throws(VMCheckpointError) in try RAMWindow() }
    freeChunks = try ChunkBuffer.make(chunkCount)
  }

  // MARK: Workers

  /// A worker's loop, until the exchange is closed or a worker failed.
  func work(_ source: SaveSource) {
    let compressor: ChunkCompressor
    do throws(VMCheckpointError) {
      compressor = try ChunkCompressor(source.compression.effort)
    } catch {
      fail(error)
      return
    }
    while let work = takeWork() {
      do throws(VMCheckpointError) {
        switch work {
        case .compress(let chunk): compress(chunk, with: compressor)
        case .scan(let window):
          try source.check?()
          let hasRead = try read(window, source)
          finish(window, hasRead: hasRead)
        }
      } catch {
        fail(error)
      }
    }
  }

  private func read(
    _ window: RAMWindow,
    _ source: SaveSource
  ) throws(VMCheckpointError) -> Bool {
    let start = MonotonicClock.nowSeconds
    guard try source.reader.readWindow(into: window) else { return false }
    // Of a settled window that was done.
    if !window.isSettled { source.substitution.apply(to: window) }
    let byteCount = window.pageCount * Page.byteCount
    clock.add(.read, seconds: MonotonicClock.nowSeconds - start, byteCount: byteCount)
    clock.measure(.scan, byteCount: byteCount) {
      window.findZeroPages()
      seen?.note(window)
      if let parent { window.isMatched = parent.match(window, fingerprinter) }
    }
    let hashStart = MonotonicClock.nowSeconds
    let hashedPageCount = window.computeDigests()
    clock.add(
      .digest,
      seconds: MonotonicClock.nowSeconds - hashStart,
      byteCount: hashedPageCount * Page.byteCount
    )
    return true
  }

  private func takeWork() -> Work? {
    monitor.withLock {
      while !isClosed, failure == nil {
        if !chunksToCompress.isEmpty { return .compress(chunksToCompress.removeFirst()) }
        if !sourceEnded, let window = freeWindows.popLast() {
          windowsInWork += 1
          return .scan(window)
        }
        monitor.wait(for: Self.workAvailable)
      }
      return nil
    }
  }

  private func compress(_ chunk: ChunkBuffer, with compressor: ChunkCompressor) {
    clock.measure(.compress, byteCount: chunk.validPages.count) {
      chunk.compress(with: compressor, fingerprinter)
    }
    finish(chunk)
  }

  private func finish(_ chunk: ChunkBuffer) {
    monitor.withLock {
      guard let index = submittedChunks.firstIndex(where: { $0.chunk === chunk }) else { return }
      submittedChunks[index].isCompressed = true
      if index == 0 { monitor.wakeOne(Self.resultAvailable) }
    }
  }

  private func finish(_ window: RAMWindow, hasRead: Bool) {
    monitor.withLock {
      windowsInWork -= 1
      if hasRead {
        scanned[window.sequence] = window
      } else {
        sourceEnded = true
        freeWindows.append(window)
      }
      monitor.wakeOne(Self.resultAvailable)
    }
  }

  // MARK: Coordinator

  /// Waits for the next thing to do. Chunks come before windows, so that their buffers get free;
  /// but they need the database, and come later when a commit is under way.
  ///
  /// - Parameter patienceSeconds: How long to wait; `nil`: for as long as it takes.
  /// - Returns: `nil` when there was nothing to do for that long.
  /// - Throws: The first worker's error, or the commit's.
  func nextEvent(patienceSeconds: Double?) throws -> Event? {
    let deadlineSeconds = patienceSeconds.map { MonotonicClock.nowSeconds + $0 }
    return try monitor.withLock { () throws -> Event? in
      while true {
        try throwFailures()
        let isCommitting = commit.isUnderWay
        if !isCommitting, let chunk = popCompressed() { return .compressed(chunk) }
        if let window = scanned.removeValue(forKey: nextScanned) {
          nextScanned += 1
          return .scanned(window)
        }
        if sourceEnded, windowsInWork == 0, scanned.isEmpty, !isCommitting { return .endOfRAM }
        guard let deadlineSeconds else {
          monitor.wait(for: Self.resultAvailable)
          continue
        }
        guard monitor.wait(for: Self.resultAvailable, untilSeconds: deadlineSeconds) else {
          return nil
        }
      }
    }
  }

  /// Waits for the next compressed chunk, or returns `nil` when none is being compressed.
  ///
  /// What no worker has begun is compressed on this thread: all workers may be waiting for a source that
  /// pauses, and others for this save's transaction.
  ///
  /// - Throws: The first worker's error, or the commit's.
  func nextCompressed(with compressor: ChunkCompressor) throws -> ChunkBuffer? {
    while true {
      let (chunk, isCompressed) = try monitor.withLock { () throws -> (ChunkBuffer?, Bool) in
        while true {
          try throwFailures()
          if let chunk = popCompressed() { return (chunk, true) }
          if submittedChunks.isEmpty { return (nil, true) }
          if !chunksToCompress.isEmpty { return (chunksToCompress.removeFirst(), false) }
          monitor.wait(for: Self.resultAvailable)
        }
      }
      guard let chunk, !isCompressed else { return chunk }
      compress(chunk, with: compressor)
    }
  }

  private func popCompressed() -> ChunkBuffer? {
    guard submittedChunks.first?.isCompressed == true else { return nil }
    return submittedChunks.removeFirst().chunk
  }

  private func throwFailures() throws {
    if let failure { throw failure }
    if case .failed(let error) = commit { throw error }
  }

  /// A chunk buffer to fill, or `nil` when all are under way.
  func takeFreeChunk() -> ChunkBuffer? {
    monitor.withLock { freeChunks.popLast() }
  }

  func submit(_ chunk: ChunkBuffer) {
    monitor.withLock {
      submittedChunks.append((chunk, false))
      chunksToCompress.append(chunk)
      monitor.wakeOne(Self.workAvailable)
    }
  }

  func giveBack(_ chunk: ChunkBuffer) {
    monitor.withLock { freeChunks.append(chunk) }
  }

  func giveBack(_ window: RAMWindow) {
    monitor.withLock {
      freeWindows.append(window)
      monitor.wakeOne(Self.workAvailable)
    }
  }

  /// Lets the workers end, and the committer after the commit that it is making.
  func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.workAvailable)
      monitor.wakeAll(Self.commitRequested)
    }
  }

  // MARK: Commits

  /// The committer's loop, until the exchange is closed.
  func makeCommits() {
    while let body = takeCommit() {
      let result = Result { try body() }
      monitor.withLock {
        switch result {
        case .success: commit = .none
        case .failure(let error): commit = .failed(error)
        }
        monitor.wakeOne(Self.resultAvailable)
      }
    }
  }

  private func takeCommit() -> (@Sendable () throws -> Void)? {
    monitor.withLock {
      while true {
        if case .requested(let body) = commit {
          commit = .running
          return body
        }
        if isClosed { return nil }
        monitor.wait(for: Self.commitRequested)
      }
    }
  }

  /// Notes that a thread runs ``makeCommits()``.
  func setHasCommitter() {
    monitor.withLock { hasCommitter = true }
  }

  /// Lets the committer run `body`; runs it here when there is none.
  func startCommit(_ body: @escaping @Sendable () throws -> Void) throws {
    let isHandedOver = monitor.withLock {
      guard hasCommitter, !isClosed else { return false }
      commit = .requested(body)
      monitor.wakeOne(Self.commitRequested)
      return true
    }
    if !isHandedOver { try body() }
  }

  /// Waits until no commit is under way.
  ///
  /// - Throws: The commit's error.
  func awaitCommit() throws {
    try monitor.withLock { () throws in
      while commit.isUnderWay { monitor.wait(for: Self.resultAvailable) }
      if case .failed(let error) = commit { throw error }
    }
  }

  private func fail(_ error: VMCheckpointError) {
    monitor.withLock {
      if failure == nil { failure = error }
      monitor.wakeAll(Self.workAvailable)
      monitor.wakeAll(Self.resultAvailable)
    }
  }
}
