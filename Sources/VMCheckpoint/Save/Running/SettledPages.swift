import Glibc
import Synchronization

/// The RAM of a guest at one instant, as what differs from ``SeenPages``: the result of one look at all of RAM
/// while the guest is stopped.
///
/// The look reads each page once, into memory of its own, and compares what it read there. A page that differs
/// is kept, so that the guest can go on before anything is stored. Nothing of it touches the store or the disk.
///
/// Made before the guest is stopped: its memory is there by then.
final class SettledPages: @unchecked Sendable {
  /// What is known of a page; larger values are places among the kept pages.
  private static let zero: UInt32 = 0
  private static let asSeen: UInt32 = 1
  private static let firstKept: UInt32 = 2

  /// Pages kept at most: 32 MiB, or a 64th of RAM where that is more, up to 1 GiB.
  private static let minimumKeptByteCount = 32 << 20
  private static let maximumKeptByteCount = 1 << 30
  private static let keptShare = 64

  let seen: SeenPages
  /// By the index of ``SeenPages``. Pages in holes are not visited, and zero.
  private let places: UnsafeMutablePointer<UInt32>
  private let placesMemory: UnsafeMutableRawBufferPointer
  private let kept: UnsafeMutableRawBufferPointer
  private let keptCapacity: Int
  private let keptCount = Atomic<Int>(0)
  private let windows: Mutex<[RAMWindow]>
  /// By the thread that looks.
  private var hasLooked = false

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(_ seen: SeenPages, threadCount: Int) throws(VMCheckpointError) {
    self.seen = seen
    let share = seen.pageCount / Self.keptShare * Page.byteCount
    let byteCount = min(max(share, Self.minimumKeptByteCount), Self.maximumKeptByteCount)
    keptCapacity = byteCount / Page.byteCount
    let windows = try (0..<threadCount).map { _ throws(VMCheckpointError) in try RAMWindow() }
    self.windows = Mutex(windows)
    placesMemory = try LargeMemory.allocateZeroed(
      byteCount: seen.pageCount * MemoryLayout<UInt32>.stride
    )
    places = placesMemory.baseAddress!.assumingMemoryBound(to: UInt32.self)
    do throws(VMCheckpointError) {
      kept = try LargeMemory.allocate(byteCount: byteCount)
    } catch {
      LargeMemory.free(placesMemory)
      throw error
    }
    // The kernel gives memory when it is touched first, which takes longer than to copy a page there.
    memset(kept.baseAddress!, 1, kept.count)
    for window in windows { memset(window.bytes.baseAddress!, 1, window.bytes.count) }
  }

  deinit {
    LargeMemory.free(placesMemory)
    LargeMemory.free(kept)
  }

  // MARK: The look

  /// Reads all of RAM and compares it.
  ///
  /// - Parameters:
  ///   - reader: Of RAM with the layout of ``seen``.
  ///   - check: Called often, by several threads; what it throws ends the look.
  /// - Returns: `false` when more differs than there is room for. Then nothing is known of RAM.
  /// - Throws: ``VMCheckpointError``, as `reader` and `check` do.
  func look(
    _ reader: any RAMReader,
    _ substitution: UnderlaySubstitution,
    clock: StageClock<SaveStage>,
    check: @escaping @Sendable () throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) -> Bool {
    forget()
    hasLooked = true
    let state = LookState()
    let count = windows.withLock { $0.count }
    let threads = try WorkerThreads(count: count) { [self] in
      guard let window = windows.withLock({ $0.popLast() }) else { return }
      defer { windows.withLock { $0.append(window) } }
      do throws(VMCheckpointError) {
        while !state.isOver {
          try check()
          let start = MonotonicClock.nowSeconds
          guard try reader.readWindow(into: window) else { return }
          substitution.apply(to: window)
          let read = MonotonicClock.nowSeconds
          let byteCount = window.pageCount * Page.byteCount
          clock.add(.read, seconds: read - start, byteCount: byteCount)
          let hasRoom = try compare(window)
          clock.add(.scan, seconds: MonotonicClock.nowSeconds - read, byteCount: byteCount)
          if !hasRoom { state.end(nil) }
        }
      } catch {
        state.end(error)
      }
    }
    threads.join()
    if let error = state.error { throw error }
    return !state.isOver
  }

  /// What the threads of a look share.
  private final class LookState: Sendable {
    private let over = Atomic<Bool>(false)
    private let first = Mutex<VMCheckpointError?>(nil)

    var isOver: Bool { over.load(ordering: .relaxed) }
    var error: VMCheckpointError? { first.withLock { $0 } }

    func end(_ error: VMCheckpointError?) {
      first.withLock { if $0 == nil { $0 = error } }
      over.store(true, ordering: .relaxed)
    }
  }

  /// Forgets an earlier look.
  private func forget() {
    guard hasLooked else { return }
    placesMemory.initializeMemory(as: UInt8.self, repeating: 0)
    keptCount.store(0, ordering: .relaxed)
  }

  /// - Returns: Whether there was room for what differs.
  private func compare(_ window: RAMWindow) throws(VMCheckpointError) -> Bool {
    guard let first = seen.index(ofPFN: window.firstPFN) else {
      throw VMCheckpointError(.unavailable, "the guest's RAM was moved while it was saved")
    }
    let base = UnsafeRawPointer(window.bytes.baseAddress!)
    for offset in 0..<window.pageCount {
      let index = first + offset
      let page = base + offset * Page.byteCount
      if seen.wasZero(at: index) {
        if ZeroPage.isZero(page) { continue }
      } else if seen.has(seen.fingerprint(of: page), at: index) {
        places[index] = Self.asSeen
        continue
      } else if ZeroPage.isZero(page) {
        continue
      }
      let slot = keptCount.wrappingAdd(1, ordering: .relaxed).oldValue
      guard slot < keptCapacity else { return false }
      (kept.baseAddress! + slot * Page.byteCount).copyMemory(from: page, byteCount: Page.byteCount)
      places[index] = UInt32(slot) + Self.firstKept
    }
    return true
  }

  // MARK: What it found

  /// The index of the first page from `index` on that is not zero; the number of pages if none is.
  func nextIndex(from index: Int) -> Int {
    var index = index
    while index < seen.pageCount, places[index] == Self.zero { index += 1 }
    return index
  }

  /// Fills `window`, whose PFNs are set, from the page with `index` on.
  func fill(_ window: RAMWindow, from index: Int) {
    for offset in 0..<window.pageCount {
      let place = places[index + offset]
      window.isZero[offset] = place == Self.zero
      window.isAsSeen[offset] = place == Self.asSeen
      guard place >= Self.firstKept else { continue }
      let slot = Int(place - Self.firstKept)
      window.page(offset).copyMemory(
        from: UnsafeRawBufferPointer(
          rebasing: kept[(slot * Page.byteCount)..<((slot + 1) * Page.byteCount)]
        )
      )
    }
  }
}

/// Reads the RAM that a look has settled: of pages that are as they were seen, only that.
final class SettledRAMReader: RAMReader {
  private struct Position {
    var index = 0
    var sequence = 0
  }

  private let pages: SettledPages
  private let position = Mutex(Position())

  init(_ pages: SettledPages) {
    self.pages = pages
  }

  var totalByteCount: UInt64? { pages.seen.layout.byteCount }

  func finalLayout() -> RAMLayout { pages.seen.layout }

  func readWindow(into window: RAMWindow) -> Bool {
    guard let index = position.withLock({ claim(&$0, window) }) else { return false }
    pages.fill(window, from: index)
    return true
  }

  /// Sets the window's PFNs; returns the index of its first page, or `nil` at the end.
  private func claim(_ position: inout Position, _ window: RAMWindow) -> Int? {
    let index = pages.nextIndex(from: position.index)
    guard let place = pages.seen.place(ofIndex: index) else { return nil }
    window.firstPFN = place.pfn
    window.pageCount = min(RAMWindow.pageCapacity, place.followingCount)
    window.sequence = position.sequence
    window.isSettled = true
    position.sequence += 1
    position.index = index + window.pageCount
    window.sourceEndOffset = UInt64(position.index * Page.byteCount)
    return index
  }
}
