import Synchronization

/// The windows in which a ``FileRestore`` puts RAM together: buffers that go round. One thread opens
/// them in order, others fill them, and the thread that puts in a window's last page writes. One
/// thread writes at a time: a file system does not let two of them into one file anyway.
///
/// The first error of any thread stops the one that opens windows.
final class RAMWindows: @unchecked Sendable {
  private final class Window {
    let pages: UnsafeMutableRawBufferPointer
    /// What the window holds, one after another.
    var parts: [Extent] = []
    let missingPageCount = Atomic<Int>(0)
    /// Guarded by the monitor.
    var isFree = true

    init(pageCapacity: Int) throws(VMCheckpointError) {
      pages = try LargeMemory.allocate(byteCount: pageCapacity * Page.byteCount)
    }

    deinit { LargeMemory.free(pages) }
  }

  typealias Write =
    @Sendable (_ parts: [Extent], UnsafeRawBufferPointer) throws(VMCheckpointError) -> Void

  private static var windowFreed: Monitor.Condition { .init(0) }

  private let monitor = Monitor(conditionCount: 1)
  private let windows: [Window]
  private let write: Write

  // Guarded by `monitor`.
  private var complete: [Int] = []
  private var isWriting = false
  private var failure: VMCheckpointError?

  /// - Parameter write: Writes a window's parts, whose pages follow each other in the bytes.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(
    count: Int,
    pageCapacity: Int,
    write: @escaping Write
  ) throws(VMCheckpointError) {
    windows = try (0..<count).map { _ throws(VMCheckpointError) in
      try Window(pageCapacity: pageCapacity)
    }
    self.write = write
  }

  var count: Int { windows.count }

  /// Opens window `number` for the parts that `fill` gives it.
  ///
  /// - Parameter waits: Whether to wait for a buffer to come free.
  /// - Returns: `false` when there is no free buffer.
  /// - Throws: Another thread's error.
  func open(
    _ number: Int,
    waits: Bool,
    _ fill: (inout [Extent]) -> Void
  ) throws(VMCheckpointError) -> Bool {
    let window = windows[number % windows.count]
    let isFree = try monitor.withLock { () throws(VMCheckpointError) in
      while waits, !window.isFree, failure == nil { monitor.wait(for: Self.windowFreed) }
      if let failure { throw failure }
      return window.isFree
    }
    guard isFree else { return false }
    fill(&window.parts)
    let pageCount = window.parts.reduce(0) { $0 + Int($1.pageCount) }
    guard pageCount > 0 else { return true }
    window.missingPageCount.store(pageCount, ordering: .relaxed)
    monitor.withLock { window.isFree = false }
    return true
  }

  /// The memory from page `firstPage` of an open window on.
  func pages(_ number: Int, from firstPage: Int, count: Int) -> UnsafeMutableRawBufferPointer {
    let start = firstPage * Page.byteCount
    return UnsafeMutableRawBufferPointer(
      rebasing: windows[number % windows.count].pages[start..<(start + count * Page.byteCount)]
    )
  }

  /// Notes that `pageCount` pages of an open window are there. If they were its last and no other
  /// thread is writing, writes the window, and others that came to be complete meanwhile.
  func add(pageCount: Int, to number: Int) throws(VMCheckpointError) {
    let index = number % windows.count
    let missing = windows[index].missingPageCount
      .subtract(pageCount, ordering: .acquiringAndReleasing).newValue
    guard missing == 0 else { return }
    var mine = monitor.withLock { () -> Int? in
      guard !isWriting else {
        complete.append(index)
        return nil
      }
      isWriting = true
      return index
    }
    while let index = mine {
      let window = windows[index]
      try write(window.parts, UnsafeRawBufferPointer(window.pages))
      mine = monitor.withLock {
        window.isFree = true
        monitor.wakeOne(Self.windowFreed)
        isWriting = !complete.isEmpty
        return isWriting ? complete.removeFirst() : nil
      }
    }
  }

  /// Makes the thread that opens windows throw `error`.
  func fail(_ error: VMCheckpointError) {
    monitor.withLock {
      if failure == nil { failure = error }
      monitor.wakeAll(Self.windowFreed)
    }
  }
}
