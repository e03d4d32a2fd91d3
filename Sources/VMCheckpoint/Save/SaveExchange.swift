/// Where a save's workers and its coordinator hand each other windows and chunks.
///
/// ```
///            free windows            scanned windows, in order
///   ┌──────────────────────┐      ┌──────────────────────────┐
///   ▼                      │      │                          ▼
/// workers: read → substitute → scan → hash            coordinator: look up,
/// workers: compress ◀── chunks to compress ───────── pack, write to SQLite
///   │                                                        ▲
///   └────────── compressed chunks, in order ─────────────────┘
/// ```
/// Both kinds of buffers go round and are bounded in number, and so is memory. Workers compress
/// before they read on, so that chunks never wait for windows: the coordinator, which may wait
/// for a chunk buffer, can always be served.
final class SaveExchange: @unchecked Sendable {
  /// What the coordinator is to do next.
  enum Event {
    /// The next chunk in order is ready to be written.
    case compressed(ChunkBuffer)
    /// The next window in order is ready to be looked up.
    case scanned(RAMWindow)
    /// All windows were handed out.
    case endOfRAM
  }

  private enum Work {
    case compress(ChunkBuffer)
    case scan(RAMWindow)
  }

  private static var workAvailable: Monitor.Condition { .init(0) }
  private static var resultAvailable: Monitor.Condition { .init(1) }

  private let monitor = Monitor(conditionCount: 2)

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
  private var isClosed = false
  private var failure: VMCheckpointError?

  init(windowCount: Int, chunkCount: Int) {
    freeWindows = (0..<windowCount).map { _ in RAMWindow() }
    freeChunks = (0..<chunkCount).map { _ in ChunkBuffer() }
  }

  // MARK: Workers

  /// A worker's loop, until the exchange is closed or a worker failed.
  func work(reader: any RAMReader, substitution: UnderlaySubstitution) {
    while let work = takeWork() {
      do throws(VMCheckpointError) {
        switch work {
        case .compress(let chunk):
          try chunk.compress()
          finish(chunk)
        case .scan(let window):
          let hasRead = try reader.readWindow(into: window)
          if hasRead {
            substitution.apply(to: window)
            window.scan()
          }
          finish(window, hasRead: hasRead)
        }
      } catch {
        fail(error)
      }
    }
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

  /// Waits for the next thing to do. Chunks come before windows, so that their buffers get free.
  ///
  /// - Parameter patienceSeconds: How long to wait; `nil`: for as long as it takes.
  /// - Returns: `nil` when there was nothing to do for that long.
  /// - Throws: The first worker's error.
  func nextEvent(patienceSeconds: Double? = nil) throws(VMCheckpointError) -> Event? {
    let deadlineSeconds = patienceSeconds.map { MonotonicClock.nowSeconds + $0 }
    return try monitor.withLock { () throws(VMCheckpointError) -> Event? in
      while true {
        if let failure { throw failure }
        if let chunk = popCompressed() { return .compressed(chunk) }
        if let window = scanned.removeValue(forKey: nextScanned) {
          nextScanned += 1
          return .scanned(window)
        }
        if sourceEnded, windowsInWork == 0, scanned.isEmpty { return .endOfRAM }
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
  /// - Throws: The first worker's error.
  func nextCompressed() throws(VMCheckpointError) -> ChunkBuffer? {
    try monitor.withLock { () throws(VMCheckpointError) in
      while true {
        if let failure { throw failure }
        if let chunk = popCompressed() { return chunk }
        if submittedChunks.isEmpty { return nil }
        monitor.wait(for: Self.resultAvailable)
      }
    }
  }

  private func popCompressed() -> ChunkBuffer? {
    guard submittedChunks.first?.isCompressed == true else { return nil }
    return submittedChunks.removeFirst().chunk
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

  /// Lets the workers end.
  func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.workAvailable)
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
