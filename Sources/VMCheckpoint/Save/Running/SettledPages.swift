import Glibc
import Synchronization

/// The RAM of a guest at one instant, as what differs from ``SeenPages``: the result of one look at all of RAM
/// while the guest is stopped.
///
/// The look reads and compares each page. A page that differs is copied and kept, so that the guest can go on
/// before anything is stored. Nothing of it touches the store or the disk.
///
/// Pages of ``MappedRAM`` are read where they are, others into memory of the look's own. A page in place may change
/// while it is read, since a stopped guest's devices may be other processes. That does no harm: each byte is read
/// once for the fingerprint, so equal means that the bytes which were read are those that were stored; and what is
/// kept, and then stored, is the copy.
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
  private let mapped: MappedRAM?
  /// By the index of ``SeenPages``. Pages in holes are not visited, and zero.
  private let places: UnsafeMutablePointer<UInt32>
  private let placesMemory: UnsafeMutableRawBufferPointer
  private let kept: UnsafeMutableRawBufferPointer
  private let keptCapacity: Int
  private let keptCount = Atomic<Int>(0)
  private let windows: Mutex<[RAMWindow]>
  /// By the thread that looks.
  private var hasLooked = false

  /// - Parameter mapped: The files of RAM, if they are mapped.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(_ seen: SeenPages, mapped: MappedRAM?, threadCount: Int) throws(VMCheckpointError) {
    self.seen = seen
    self.mapped = mapped
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
    let look = Look(reader, substitution, mapped, clock)
    let state = LookState()
    let count = windows.withLock { $0.count }
    let threads = try WorkerThreads(count: count) { [self] in
      guard let window = windows.withLock({ $0.popLast() }) else { return }
      defer { windows.withLock { $0.append(window) } }
      do throws(VMCheckpointError) {
        while !state.isOver {
          try check()
          guard let hasRoom = try lookAtNext(window, look) else { return }
          if !hasRoom { state.end(nil) }
        }
      } catch {
        state.end(error)
      }
    }
    threads.join()
    if let error = state.error { throw error }
    if let (mapped, reader) = look.inPlace { try mapped.requireIntact(reader) }
    return !state.isOver
  }

  /// What is looked at.
  private struct Look: Sendable {
    let reader: any RAMReader
    let substitution: UnderlaySubstitution
    let clock: StageClock<SaveStage>
    /// `nil`: all pages are read.
    let inPlace: (mapped: MappedRAM, reader: FileRAMReader)?

    init(
      _ reader: any RAMReader,
      _ substitution: UnderlaySubstitution,
      _ mapped: MappedRAM?,
      _ clock: StageClock<SaveStage>
    ) {
      self.reader = reader
      self.substitution = substitution
      self.clock = clock
      if let mapped, let files = reader as? FileRAMReader, mapped.isOf(files.opened) {
        inPlace = (mapped, files)
      } else {
        inPlace = nil
      }
    }
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

  /// - Returns: Whether there was room for what differs; `nil` at the end of RAM.
  private func lookAtNext(_ window: RAMWindow, _ look: Look) throws(VMCheckpointError) -> Bool? {
    let start = MonotonicClock.nowSeconds
    if let (mapped, reader) = look.inPlace {
      guard let place = try reader.claimWindow(window) else { return nil }
      if let pages = mapped.pages(at: place, count: window.pageCount),
        !look.substitution.concerns(window)
      {
        let hasRoom = try compare(window, inPlace: pages, reader, place)
        look.clock.add(
          .scan,
          seconds: MonotonicClock.nowSeconds - start,
          byteCount: window.pageCount * Page.byteCount
        )
        return hasRoom
      }
      try reader.read(0..<window.pageCount, of: window, at: place)
    } else {
      guard try look.reader.readWindow(into: window) else { return nil }
    }
    look.substitution.apply(to: window)
    let read = MonotonicClock.nowSeconds
    let byteCount = window.pageCount * Page.byteCount
    look.clock.add(.read, seconds: read - start, byteCount: byteCount)
    let first = try index(of: window)
    let pages = UnsafeRawPointer(window.bytes.baseAddress!)
    let hasRoom = compare(0..<window.pageCount, pages, first)
    look.clock.add(.scan, seconds: MonotonicClock.nowSeconds - read, byteCount: byteCount)
    return hasRoom
  }

  /// Compares a window whose pages are at `pages`. Those that were zero are read all the same: they may be in
  /// holes.
  private func compare(
    _ window: RAMWindow,
    inPlace pages: UnsafeRawPointer,
    _ reader: FileRAMReader,
    _ place: FileRAMReader.Place
  ) throws(VMCheckpointError) -> Bool {
    let first = try index(of: window)
    var start = 0
    while start < window.pageCount {
      let wereZero = seen.wasZero(at: first + start)
      var end = start + 1
      while end < window.pageCount, seen.wasZero(at: first + end) == wereZero { end += 1 }
      if wereZero { try reader.read(start..<end, of: window, at: place) }
      let base = wereZero ? UnsafeRawPointer(window.bytes.baseAddress!) : pages
      guard compare(start..<end, base, first) else { return false }
      start = end
    }
    return true
  }

  private func index(of window: RAMWindow) throws(VMCheckpointError) -> Int {
    guard let first = seen.index(ofPFN: window.firstPFN) else {
      throw VMCheckpointError(.unavailable, "the guest's RAM was moved while it was saved")
    }
    return first
  }

  /// Compares some pages of a window.
  ///
  /// - Parameters:
  ///   - offsets: Which, counted from the window's first.
  ///   - base: Where the window's first page is.
  ///   - first: The index of the window's first page.
  /// - Returns: Whether there was room for what differs.
  private func compare(_ offsets: Range<Int>, _ base: UnsafeRawPointer, _ first: Int) -> Bool {
    for offset in offsets {
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
      let copy = kept.baseAddress! + slot * Page.byteCount
      copy.copyMemory(from: page, byteCount: Page.byteCount)
      // Another process may have zeroed it meanwhile.
      if ZeroPage.isZero(copy) { continue }
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
