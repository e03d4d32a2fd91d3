import Synchronization

/// A chunk that is made of pages of others.
final class ChunkJob: @unchecked Sendable {
  let chunk: ChunkBuffer
  /// Where the page in each slot comes from.
  var sources: [PageLocation] = []
  /// Slots whose page does not have its digest; such a chunk is not compressed.
  var damagedSlots: UInt16 = 0

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init() throws(VMCheckpointError) { chunk = try ChunkBuffer() }
}

/// Threads that check and compress chunks. The chunks come back in the order in which they were
/// given. A job is free → filled by the owner → worked on → taken by the owner → free. The number
/// of jobs bounds the memory.
final class CompressionLine: @unchecked Sendable {
  private static var workAvailable: Monitor.Condition { .init(0) }
  private static var resultAvailable: Monitor.Condition { .init(1) }

  private let monitor = Monitor(conditionCount: 2)

  // Guarded by `monitor`.
  private var free: [ChunkJob]
  private var waiting: [ChunkJob] = []
  /// In the order of their coming.
  private var underWay: [(job: ChunkJob, isDone: Bool)] = []
  private var isClosed = false

  private init(jobCount: Int) throws(VMCheckpointError) {
    free = try (0..<jobCount).map { _ throws(VMCheckpointError) in try ChunkJob() }
  }

  /// Calls `body` with a line that `threadCount` threads serve, and ends them when it returns.
  static func run<Result>(
    threadCount: Int,
    effort: ChunkCompressor.Effort,
    fingerprinter: PageFingerprinter,
    _ body: (CompressionLine) throws -> Result
  ) throws -> Result {
    let line = try CompressionLine(jobCount: threadCount * 4 + 32)
    // Made before the threads are: one that ended for want of memory would leave its jobs undone.
    let compressors = Mutex(
      try (0..<threadCount).map { _ throws(VMCheckpointError) in try ChunkCompressor(effort) }
    )
    let threads = try WorkerThreads(count: threadCount) {
      guard let compressor = compressors.withLock({ $0.popLast() }) else { return }
      while let job = line.takeWaiting() {
        work(on: job, compressor, fingerprinter)
        line.finish(job)
      }
    }
    defer {
      line.close()
      threads.join()
    }
    return try body(line)
  }

  private static func work(
    on job: ChunkJob,
    _ compressor: ChunkCompressor,
    _ fingerprinter: PageFingerprinter
  ) {
    let chunk = job.chunk
    job.damagedSlots = 0
    for slot in 0..<chunk.pageCount where PageDigest(of: chunk.page(slot)) != chunk.digest(slot) {
      job.damagedSlots |= 1 << UInt16(slot)
    }
    if job.damagedSlots == 0 { chunk.compress(with: compressor, fingerprinter) }
  }

  /// A job to fill, or `nil` when all are under way.
  func takeFree() -> ChunkJob? { monitor.withLock { free.popLast() } }

  func submit(_ job: ChunkJob) {
    monitor.withLock {
      underWay.append((job, false))
      waiting.append(job)
      monitor.wakeOne(Self.workAvailable)
    }
  }

  /// The next job in order, for the caller to give back.
  ///
  /// - Parameter waits: Whether to wait for it.
  /// - Returns: `nil` when none is under way, or the next is not done and `waits` is false.
  func takeDone(waits: Bool) -> ChunkJob? {
    monitor.withLock {
      while let first = underWay.first {
        if first.isDone { return underWay.removeFirst().job }
        guard waits else { return nil }
        monitor.wait(for: Self.resultAvailable)
      }
      return nil
    }
  }

  func giveBack(_ job: ChunkJob) { monitor.withLock { free.append(job) } }

  private func takeWaiting() -> ChunkJob? {
    monitor.withLock {
      while !isClosed {
        if !waiting.isEmpty { return waiting.removeFirst() }
        monitor.wait(for: Self.workAvailable)
      }
      return nil
    }
  }

  private func finish(_ job: ChunkJob) {
    monitor.withLock {
      guard let index = underWay.firstIndex(where: { $0.job === job }) else { return }
      underWay[index].isDone = true
      if index == 0 { monitor.wakeOne(Self.resultAvailable) }
    }
  }

  private func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.workAvailable)
    }
  }
}
