import CLinux
package import SystemPackage

/// Lets the kernel write files to disk while more of them is still being made, so that the sync at
/// the end has little left to do.
///
/// A thread of its own asks for it, because the request may wait for the disk.
package final class BackgroundWriteback: @unchecked Sendable {
  /// 16 MiB: some ten milliseconds of a disk's time.
  private static let stepByteCount = 16 << 20

  private static var needed: Monitor.Condition { .init(0) }

  private let monitor = Monitor(conditionCount: 1)
  private let descriptors: [FileDescriptor]

  // Guarded by `monitor`.
  private var newByteCount = 0
  private var isClosed = false

  private init(_ descriptors: [FileDescriptor]) {
    self.descriptors = descriptors
  }

  /// Runs `body`, which reports what it has written to `descriptors`. When it returns, nobody uses
  /// them any more.
  ///
  /// - Throws: What `body` throws.
  package static func run<Result>(
    _ descriptors: [FileDescriptor],
    _ body: (BackgroundWriteback) throws -> Result
  ) throws -> Result {
    let writeback = BackgroundWriteback(descriptors)
    // Without a thread to spare all is written by the sync at the end.
    let thread = try? WorkerThreads(count: 1) { writeback.work() }
    defer {
      writeback.close()
      thread?.join()
    }
    return try body(writeback)
  }

  /// Notes that `byteCount` bytes more are written.
  package func note(byteCount: Int) {
    monitor.withLock {
      newByteCount += byteCount
      if newByteCount >= Self.stepByteCount { monitor.wakeOne(Self.needed) }
    }
  }

  private func work() {
    while takeStep() {
      for descriptor in descriptors { clinux_start_writeback(descriptor.rawValue) }
    }
  }

  private func takeStep() -> Bool {
    monitor.withLock {
      while !isClosed, newByteCount < Self.stepByteCount { monitor.wait(for: Self.needed) }
      newByteCount = 0
      return !isClosed
    }
  }

  private func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.needed)
    }
  }
}
