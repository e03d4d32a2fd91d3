/// The buffers in which a ``StreamRestore`` puts consecutive pages together. One thread opens them in
/// order, and writes them; workers fill them meanwhile.
///
/// The first error of any worker stops the thread that waits for what that worker had.
final class StreamWindows: @unchecked Sendable {
  /// One buffer and what it is for. Its numbers are set while no worker has it.
  final class Window: @unchecked Sendable {
    private let memory: UnsafeMutableRawBufferPointer
    private(set) var firstPFN: UInt64 = 0
    private var pageCount = 0
    /// Batches that workers have. Guarded by the monitor.
    fileprivate var batchCount = 0

    fileprivate init(pageCapacity: Int) throws(VMCheckpointError) {
      memory = try LargeMemory.allocate(byteCount: pageCapacity * Page.byteCount)
    }

    deinit { LargeMemory.free(memory) }

    fileprivate func open(firstPFN: UInt64, pageCount: Int) {
      self.firstPFN = firstPFN
      self.pageCount = pageCount
    }

    var endPFN: UInt64 { firstPFN + UInt64(pageCount) }

    /// The memory of some of its pages, or of all.
    ///
    /// - Precondition: The window has them.
    func pages(_ pfns: Range<UInt64>) -> UnsafeMutableRawBufferPointer {
      precondition(pfns.lowerBound >= firstPFN && pfns.upperBound <= endPFN)
      let start = Int(pfns.lowerBound - firstPFN) * Page.byteCount
      return UnsafeMutableRawBufferPointer(
        rebasing: memory[start..<(start + pfns.count * Page.byteCount)]
      )
    }

    var bytes: UnsafeMutableRawBufferPointer { pages(firstPFN..<endPFN) }
  }

  private static var batchDone: Monitor.Condition { .init(0) }

  private let monitor = Monitor(conditionCount: 1)
  private let windows: [Window]
  private var openedCount = 0
  /// Guarded by the monitor.
  private var failure: VMCheckpointError?

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(count: Int, pageCapacity: Int) throws(VMCheckpointError) {
    windows = try (0..<count).map { _ throws(VMCheckpointError) in
      try Window(pageCapacity: pageCapacity)
    }
  }

  /// The next window, with anything in its pages.
  ///
  /// - Precondition: The one that was opened `count` windows before is filled and written.
  func open(firstPFN: UInt64, pageCount: Int) -> Window {
    let window = windows[openedCount % windows.count]
    openedCount += 1
    window.open(firstPFN: firstPFN, pageCount: pageCount)
    return window
  }

  /// Notes that a worker is to get a batch for the window.
  func beginBatch(_ window: Window) {
    monitor.withLock { window.batchCount += 1 }
  }

  /// Notes that all pages of a batch are in the window.
  func endBatch(_ window: Window) {
    monitor.withLock {
      window.batchCount -= 1
      if window.batchCount == 0 { monitor.wakeOne(Self.batchDone) }
    }
  }

  /// Waits until the window has all pages of its batches.
  ///
  /// - Throws: A worker's error, when the window lacks pages.
  func awaitFilled(_ window: Window) throws(VMCheckpointError) {
    try monitor.withLock { () throws(VMCheckpointError) in
      while window.batchCount > 0 {
        if let failure { throw failure }
        monitor.wait(for: Self.batchDone)
      }
    }
  }

  /// Makes the thread that waits throw `error`.
  func fail(_ error: VMCheckpointError) {
    monitor.withLock {
      if failure == nil { failure = error }
      monitor.wakeAll(Self.batchDone)
    }
  }
}
