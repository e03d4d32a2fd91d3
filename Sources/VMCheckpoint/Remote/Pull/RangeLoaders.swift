/// Threads that read ranges, with a fixed set of them: free → filled → being read → read → written → free.
///
/// The first error of a thread stops the rest; whoever fills and takes ranges gets it at its next call.
final class RangeLoaders: @unchecked Sendable {
  private static let filledChanged = Monitor.Condition(0)
  private static let readChanged = Monitor.Condition(1)

  private let monitor = Monitor(conditionCount: 2)
  private let link: RemoteLink
  private let fingerprinter: PageFingerprinter
  /// Half of all: meanwhile threads read the others.
  private let rangesAtOnce: Int

  // Guarded by `monitor`.
  private var free: [ChunkRange]
  private var filled: [ChunkRange] = []
  private var read: [ChunkRange] = []
  private var outstandingCount = 0
  private var isClosed = false
  private var failure: VMCheckpointError?

  init(
    _ link: RemoteLink,
    _ fingerprinter: PageFingerprinter,
    rangeCount: Int
  ) throws(VMCheckpointError) {
    self.link = link
    self.fingerprinter = fingerprinter
    rangesAtOnce = max(1, rangeCount / 2)
    var ranges: [ChunkRange] = []
    for _ in 0..<rangeCount { ranges.append(try ChunkRange()) }
    free = ranges
  }

  /// What a thread does until ``close()``.
  func work() {
    do throws(VMCheckpointError) {
      let chunk = try ChunkBuffer()
      let decoder = try LZ4FrameDecoder()
      while let range = takeFilled() {
        try range.load(link.transport, chunk, decoder, fingerprinter)
        monitor.withLock {
          read.append(range)
          monitor.wakeOne(Self.readChanged)
        }
      }
    } catch {
      monitor.withLock {
        if failure == nil { failure = error }
        monitor.wakeAll(Self.filledChanged)
        monitor.wakeAll(Self.readChanged)
      }
    }
  }

  /// A range to fill; `nil` while there is none: one that was read is to be taken first.
  func takeFree() -> ChunkRange? { monitor.withLock { free.popLast() } }

  func submit(_ range: ChunkRange) {
    monitor.withLock {
      filled.append(range)
      outstandingCount += 1
      monitor.wakeOne(Self.filledChanged)
    }
  }

  /// A range that was read; waits for some of them, so that they are written together: a commit takes as long for one.
  ///
  /// - Returns: `nil` when all that were submitted are taken.
  /// - Throws: A thread's error.
  func takeRead() throws(VMCheckpointError) -> ChunkRange? {
    try monitor.withLock { () throws(VMCheckpointError) in
      while true {
        if let failure { throw failure }
        if outstandingCount == 0 { return nil }
        if read.count >= min(outstandingCount, rangesAtOnce), let range = read.popLast() {
          outstandingCount -= 1
          return range
        }
        monitor.wait(for: Self.readChanged)
      }
    }
  }

  /// A range that was read, if there is one.
  ///
  /// - Throws: A thread's error.
  func takeReady() throws(VMCheckpointError) -> ChunkRange? {
    try monitor.withLock { () throws(VMCheckpointError) in
      if let failure { throw failure }
      guard let range = read.popLast() else { return nil }
      outstandingCount -= 1
      return range
    }
  }

  func giveBack(_ range: ChunkRange) { monitor.withLock { free.append(range) } }

  /// Lets the threads end.
  func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.filledChanged)
    }
  }

  private func takeFilled() -> ChunkRange? {
    monitor.withLock {
      while failure == nil, !isClosed {
        if !filled.isEmpty { return filled.removeFirst() }
        monitor.wait(for: Self.filledChanged)
      }
      return nil
    }
  }
}
