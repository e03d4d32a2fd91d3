/// A thread that decodes chunks for another one, which reads them one after another, and decodes some itself where this
/// one is behind.
///
/// Chunks are decoded in the order in which they were given. A chunk belongs to this from ``add(_:_:_:)`` until
/// ``finish(_:)`` has returned, which is called for each, in that order; or until ``end()``. All calls are of one thread.
final class DecodingThread: @unchecked Sendable {
  /// At most so many chunks are here. Who reads no more gets them without a thread.
  static let capacity = 16

  /// A chunk, and a copy of what it is made of.
  private final class Job {
    enum State { case free, waiting, taken, done }

    var state = State.free
    var chunk: DecodedChunk?
    let stored = UnsafeMutableRawBufferPointer.allocate(
      byteCount: ChunkFormat.maximumStoredByteCount,
      alignment: 64
    )
    var storedByteCount = 0
    let fingerprints = UnsafeMutableRawBufferPointer.allocate(
      byteCount: ChunkFormat.pageCapacity * PageFingerprinter.byteCount,
      alignment: 64
    )
    var fingerprintByteCount: Int?
    var failure: VMCheckpointError?

    deinit {
      stored.deallocate()
      fingerprints.deallocate()
    }

    func decode(_ fingerprinter: PageFingerprinter, with decoder: LZ4FrameDecoder) {
      do throws(VMCheckpointError) {
        try chunk!.decode(
          UnsafeRawBufferPointer(rebasing: stored[..<storedByteCount]),
          fingerprintByteCount.map { UnsafeRawBufferPointer(rebasing: fingerprints[..<$0]) },
          fingerprinter,
          with: decoder
        )
      } catch {
        failure = error
      }
    }
  }

  private static let hasWork = Monitor.Condition(0)
  private static let isDone = Monitor.Condition(1)

  private let monitor = Monitor(conditionCount: 2)
  private let fingerprinter: PageFingerprinter
  private let decoder: LZ4FrameDecoder
  private var jobs: [Job] = []
  private var threads: WorkerThreads?
  /// Of the next chunk that is given.
  private var nextNumber = 0
  /// The first chunk that nobody has taken. From here on, the monitor guards all, and each job's state.
  private var nextWaiting = 0
  private var isIdle = false
  private var isWaitedFor = false
  private var isEnding = false

  /// - Parameter fingerprinter: The store's.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(_ fingerprinter: PageFingerprinter) throws(VMCheckpointError) {
    self.fingerprinter = fingerprinter
    decoder = try LZ4FrameDecoder()
  }

  /// Ends the thread. To be called once; chunks that were not finished hold anything then.
  func end() {
    monitor.withLock {
      isEnding = true
      monitor.wakeAll(Self.hasWork)
    }
    threads?.join()
  }

  /// Gives it a chunk in which nothing is decoded yet.
  ///
  /// - Parameter stored: The chunk's data, of which a copy is made, as of `fingerprints`.
  /// - Returns: What ``finish(_:)`` is called with.
  /// - Precondition: Fewer than ``capacity`` chunks are not finished.
  func add(
    _ chunk: DecodedChunk,
    _ stored: UnsafeRawBufferPointer,
    _ fingerprints: UnsafeRawBufferPointer?
  ) -> Int {
    let number = nextNumber
    nextNumber += 1
    if number < Self.capacity { jobs.append(Job()) }
    let job = jobs[number % Self.capacity]
    precondition(job.state == .free && stored.count <= job.stored.count)
    chunk.isBegun = true
    job.chunk = chunk
    job.stored.copyMemory(from: stored)
    job.storedByteCount = stored.count
    if let fingerprints { job.fingerprints.copyMemory(from: fingerprints) }
    job.fingerprintByteCount = fingerprints?.count
    // Where it cannot be started, `finish` decodes all chunks.
    if number == Self.capacity {
      threads = try? WorkerThreads(count: 1) { [unowned self] in work() }
    }
    monitor.withLock {
      job.state = .waiting
      if isIdle { monitor.wakeOne(Self.hasWork) }
    }
    return number
  }

  /// Waits until the chunk is decoded, or decodes it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`; the chunk is empty then.
  func finish(_ number: Int) throws(VMCheckpointError) {
    let job = jobs[number % Self.capacity]
    let isOurs = monitor.withLock {
      let isOurs = job.state == .waiting
      if isOurs {
        nextWaiting = number + 1
      } else {
        isWaitedFor = true
        while job.state != .done { monitor.wait(for: Self.isDone) }
        isWaitedFor = false
      }
      // Before it is decoded here: the thread, which may come round to it, is not to take it.
      job.state = .free
      return isOurs
    }
    if isOurs { job.decode(fingerprinter, with: decoder) }
    let chunk = job.chunk!
    job.chunk = nil
    chunk.isBegun = false
    if let failure = job.failure {
      job.failure = nil
      chunk.clear()
      throw failure
    }
  }

  private func work() {
    guard let decoder = try? LZ4FrameDecoder() else { return }
    while let job = take() {
      job.decode(fingerprinter, with: decoder)
      monitor.withLock {
        job.state = .done
        if isWaitedFor { monitor.wakeOne(Self.isDone) }
      }
    }
  }

  /// The next chunk that nobody has taken; `nil` at the end.
  private func take() -> Job? {
    monitor.withLock {
      while !isEnding {
        let job = jobs[nextWaiting % Self.capacity]
        if job.state == .waiting {
          job.state = .taken
          nextWaiting += 1
          return job
        }
        isIdle = true
        monitor.wait(for: Self.hasWork)
        isIdle = false
      }
      return nil
    }
  }
}
