/// One pass over a guest's RAM: workers read windows, and the thread that runs the pass gets them in ascending order
/// of PFN.
///
/// ```
///            free windows             read windows, in order
///   ┌──────────────────────┐       ┌─────────────────────────┐
///   ▼                      │       │                         ▼
/// workers: read ───────────┼───────┘       the running thread: write
///                          └──────────── windows that are written
/// ```
/// The windows go round and are bounded in number, and so is memory.
final class WindowPass: @unchecked Sendable {
  /// Reads the next window.
  typealias Read = @Sendable (RAMWindow) throws(VMCheckpointError) -> Bool

  private static var windowFreed: Monitor.Condition { .init(0) }
  private static var windowRead: Monitor.Condition { .init(1) }

  private let monitor = Monitor(conditionCount: 2)
  private let read: Read

  // Guarded by `monitor`.
  private var free: [RAMWindow]
  private var waiting: [Int: RAMWindow] = [:]
  private var next = 0
  private var underWayCount = 0
  private var sourceEnded = false
  private var isClosed = false
  private var failure: VMCheckpointError?

  private init(windowCount: Int, read: @escaping Read) throws(VMCheckpointError) {
    free = try (0..<windowCount).map { _ throws(VMCheckpointError) in try RAMWindow() }
    self.read = read
  }

  /// Runs a pass.
  ///
  /// - Parameters:
  ///   - read: Called on several threads at once, as ``RAMReader/readWindow(into:)``.
  ///   - body: Called on this thread with each window in turn.
  /// - Throws: The first error of `read` or `body`, or ``VMCheckpointError`` with the code `cancelled`. All threads
  ///   have ended then.
  static func run(
    _ control: OperationControl,
    read: @escaping Read,
    _ body: (RAMWindow) throws -> Void
  ) throws {
    let pass = try WindowPass(windowCount: control.threadCount * 2 + 2, read: read)
    let workers = try WorkerThreads(count: control.threadCount) { pass.work() }
    defer {
      pass.close()
      workers.join()
    }
    while let window = try pass.nextWindow() {
      try control.cancellation.check()
      try body(window)
      pass.giveBack(window)
    }
  }

  private func work() {
    while let window = takeFree() {
      do throws(VMCheckpointError) {
        finish(window, isRead: try read(window))
      } catch {
        fail(error)
      }
    }
  }

  private func takeFree() -> RAMWindow? {
    monitor.withLock {
      while !isClosed, !sourceEnded, failure == nil {
        if let window = free.popLast() {
          underWayCount += 1
          return window
        }
        monitor.wait(for: Self.windowFreed)
      }
      return nil
    }
  }

  private func finish(_ window: RAMWindow, isRead: Bool) {
    monitor.withLock {
      underWayCount -= 1
      if isRead {
        waiting[window.sequence] = window
      } else {
        sourceEnded = true
        monitor.wakeAll(Self.windowFreed)
      }
      monitor.wakeOne(Self.windowRead)
    }
  }

  /// The next window in order; `nil` at the end.
  private func nextWindow() throws(VMCheckpointError) -> RAMWindow? {
    try monitor.withLock { () throws(VMCheckpointError) in
      while true {
        if let failure { throw failure }
        if let window = waiting.removeValue(forKey: next) {
          next += 1
          return window
        }
        if sourceEnded, underWayCount == 0 { return nil }
        monitor.wait(for: Self.windowRead)
      }
    }
  }

  private func giveBack(_ window: RAMWindow) {
    monitor.withLock {
      free.append(window)
      monitor.wakeOne(Self.windowFreed)
    }
  }

  private func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.windowFreed)
    }
  }

  private func fail(_ error: VMCheckpointError) {
    monitor.withLock {
      underWayCount -= 1
      if failure == nil { failure = error }
      monitor.wakeAll(Self.windowFreed)
      monitor.wakeOne(Self.windowRead)
    }
  }
}
