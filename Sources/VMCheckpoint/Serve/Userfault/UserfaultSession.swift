import CLinux
import Glibc
import Synchronization

/// Serves the faults of one VM, in a thread of its own.
///
/// One thread does all of it, events, faults and the background, so that nothing comes between deciding that a page is
/// the snapshot's and putting it in place: an event that takes the page away would have to be read in between, by
/// this thread. While an event waits, the kernel refuses to put pages in place at all.
///
///     state of a unit     a fault there                the background
///     not taken           its page of the snapshot     its page, if it is stored
///     taken               zeros; nothing if present    nothing
///
/// A unit is taken once a page is in place, or the VMM has dropped it. When all stored pages are taken, the
/// memory is given back to the kernel, which gives zeros from then on, as it must, and nobody has to serve.
final class UserfaultSession: @unchecked Sendable {
  // Unchecked: the thread of ``run()`` alone uses what is not constant.

  /// How serving ended.
  enum Ending: Sendable {
    /// The VM has all of its pages, and goes on without a server.
    case complete
    /// The VM is gone.
    case vmEnded
  }

  /// The VM is gone.
  struct VMEnded: Error {}

  /// What one answer about zeros covers: 16 pages, since faults come close to each other.
  private static let zeroBlockPageCount: UInt64 = 16
  /// For so long after an answer the next fault is looked for before anything else is done: a VM that reads on is back
  /// sooner than a thread wakes, and would have to wait for what was begun meanwhile.
  private static let attentionNanoseconds: UInt64 = 20_000
  /// After so many answers something else is done once.
  private static let maximumAnswersInTurn = 64
  /// So many runs may be left to be put in place; of more, the oldest are forgotten.
  private static let owedRunCapacity = 256
  private static let probeMilliseconds: Int32 = 1000
  /// Where no RAM is: the lowest address that may be mapped. The kernel does not check that memory is of the
  /// userfaultfd through which something is put there. So in a VM's own range a probe could hit the RAM of the
  /// process's next VM.
  private static let probeAddress: UInt64 = 64 << 10

  /// What belongs to the VM; ``close()`` closes the descriptors.
  struct VM: Sendable {
    var id: UInt64
    var connection: Int32
    var userfaultfd: Int32
    /// The process that connected; 0 if unknown.
    var process: pid_t
    var map: GuestAddressMap
    /// Memory of the server before this one; `nil` when the VM has just come.
    var servedPages: Int32?
  }

  /// A run of stored pages, of which some were put in place alone.
  private struct Owed {
    var pfns: Range<UInt64>
    var piece: GuestAddressMap.Piece
    var faultCount = 0
  }

  /// Why pages are put in place.
  enum Cause {
    /// Somebody waits for the unit that begins with this page.
    case fault(UInt64)
    /// They are beside a page for which somebody has waited.
    case neighbour
    case workingSet
    case background

    var faultPFN: UInt64? { if case .fault(let pfn) = self { pfn } else { nil } }
  }

  let vm: VM
  let server: PageServer
  let pages: ServedPages
  let userfaultfd: Userfaultfd
  private let stop: ServeStop
  private let prefetches: Bool
  private let warn: @Sendable (String) -> Void
  let buffer: UnsafeMutableRawBufferPointer
  private var faults: [(address: UInt64, since: UInt64)] = []
  private var nextFault = 0
  /// When the page that a VM waits for was put in place last.
  private var answeredAt: UInt64 = 0
  /// Faults since anything else was done.
  private var answersInTurn = 0
  /// What is beside pages that were put in place alone, in the order of their faults.
  private var owed: [Owed] = []
  /// Where the last runs end that were put in place as a whole: who touches the page there reads on.
  private var streamEnds = [UInt64](repeating: .max, count: 8)
  private var streamIndex = 0
  /// Faults whose pages come from a remote, and how much had come when that was last looked at.
  private var putOff: [(address: UInt64, since: UInt64)] = []
  private var arrivalCount = 0
  private let bell: Doorbell
  /// Where the background goes on.
  var cursor: (piece: Int, pfn: UInt64)
  /// Whether the background has met pages that cannot be read, and left them.
  var hasSkipped = false
  let workingSets: WorkingSetUse
  /// What this VM touches is noted there; `nil`: another VM is watched, or none.
  private let recorder: WorkingSetRecorder?
  /// Which run of the working set comes next, and from which page of it on.
  var play: (run: Int, pfn: UInt64) = (0, 0)
  private(set) var isStopping = false
  private var isPeerClosed = false
  var cannotComplete = false
  private var warned = Set<String>()
  private var forks: [Int32] = []

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(
    _ vm: VM,
    server: PageServer,
    workingSets: WorkingSetUse,
    prefetches: Bool,
    stop: ServeStop,
    warn: @escaping @Sendable (String) -> Void
  ) throws(VMCheckpointError) {
    self.vm = vm
    self.server = server
    self.workingSets = workingSets
    recorder = vm.servedPages == nil ? workingSets.claimRecorder() : nil
    self.prefetches = prefetches
    self.stop = stop
    self.warn = warn
    pages = try ServedPages(unitCount: vm.map.unitCount, adopting: vm.servedPages)
    userfaultfd = Userfaultfd(descriptor: vm.userfaultfd)
    bell = try Doorbell()
    server.reader.listen(bell)
    cursor = (0, vm.map.pieces[0].firstPFN)
    buffer = try LargeMemory.allocate(
      byteCount: max(ChunkFormat.byteCapacity, Int(vm.map.unitByteCount))
    )
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    faults.reserveCapacity(ServedPages.messageCapacity)
  }

  deinit { LargeMemory.free(buffer) }

  /// The memory that a server after this one needs.
  var servedPagesDescriptor: Int32 { pages.descriptor }

  /// Closes what belongs to the VM.
  func close() {
    for descriptor in [vm.userfaultfd, vm.connection] + forks { Glibc.close(descriptor) }
  }

  /// Serves until the VM has ended or is complete.
  func run() -> Ending {
    do {
      // What the server before has read and not answered. Who waits is woken, and asks again.
      if vm.servedPages != nil {
        handleMessages(count: ServedPages.messageCapacity, takesFaults: false)
        for piece in vm.map.pieces {
          userfaultfd.wake(piece.address, piece.endAddress - piece.address)
        }
      }
      while true {
        if nextFault == faults.count {
          faults.removeAll(keepingCapacity: true)
          nextFault = 0
        }
        try readEvents()
        takeArrivals()
        if nextFault < faults.count {
          let fault = faults[nextFault]
          nextFault += 1
          answersInTurn += 1
          if isHere(fault.address) {
            try answer(fault.address, since: fault.since)
          } else {
            putOff.append(fault)
          }
          continue
        }
        if answersInTurn < Self.maximumAnswersInTurn, !isStopping,
          Self.nanoseconds - answeredAt < Self.attentionNanoseconds
        {
          continue
        }
        answersInTurn = 0
        if try putOwed() { continue }
        if !isStopping, stop.isRequested { beginStopping() }
        if isStopping || prefetches && !isRecording && !hasPeerClosed() {
          if !isStopping, try playWorkingSet() { continue }
          if cursor.piece < vm.map.pieces.count {
            if try advance() { continue }
          } else if !hasSkipped, !cannotComplete, try complete() {
            return .complete
          }
        }
        try wait()
      }
    } catch {
      return .vmEnded
    }
  }

  /// Looks again at faults that wait for a remote, when something has come.
  private func takeArrivals() {
    let count = server.reader.arrivalCount
    guard count != arrivalCount else { return }
    arrivalCount = count
    faults += putOff
    putOff.removeAll(keepingCapacity: true)
  }

  /// Whether this VM's touches are noted: what was put in place in the background would hide them.
  private var isRecording: Bool { recorder.map { $0.remainingSeconds > 0 } ?? false }

  /// Whether this VM is the one whose touches are noted.
  var recordsWorkingSet: Bool { recorder != nil }

  /// The server is to end: the VM gets all of its pages first.
  private func beginStopping() {
    isStopping = true
    hasSkipped = false
    cursor = (0, vm.map.pieces[0].firstPFN)
  }

  private func wait() throws(VMEnded) {
    var requests = [
      pollfd(fd: vm.userfaultfd, events: Int16(POLLIN), revents: 0),
      pollfd(fd: bell.descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
    ]
    // When recording ends, the background begins.
    let recordingSeconds = prefetches ? recorder?.remainingSeconds ?? 0 : 0
    let milliseconds =
      recordingSeconds > 0
      ? min(Self.probeMilliseconds, Int32(recordingSeconds * 1000) + 1) : Self.probeMilliseconds
    let count = poll(&requests, isStopping ? 2 : 3, milliseconds)
    if requests[1].revents != 0 { bell.answer() }
    guard count == 0 else { return }
    if case .ended = probe() { throw VMEnded() }
  }

  /// Puts nothing anywhere. The outcome says whether the VM is gone, or an event waits.
  func probe() -> Userfaultfd.Outcome {
    userfaultfd.zero(Self.probeAddress, UInt64(Page.byteCount))
  }

  /// Whether the VMM has closed its connection. It may have given its RAM up, and have another VM's at the
  /// same addresses: then nothing is put in place that nobody waits for.
  private func hasPeerClosed() -> Bool {
    if !isPeerClosed {
      var request = pollfd(fd: vm.connection, events: 0, revents: 0)
      isPeerClosed = poll(&request, 1, 0) > 0 && request.revents & Int16(POLLHUP) != 0
    }
    return isPeerClosed
  }

  // MARK: Events

  /// Reads all events that there are: what was dropped is noted, faults are queued.
  func readEvents() throws(VMEnded) {
    let messages = pages.messages
    while true {
      let count = read(vm.userfaultfd, messages.baseAddress, messages.count)
      if count < 0 {
        if errno == EINTR { continue }
        if errno == EAGAIN { return }
        throw VMEnded()
      }
      handleMessages(count: count / UserfaultEvent.byteCount, takesFaults: true)
      guard count == messages.count else { return }
    }
  }

  /// A fault may come before the removal that has caused it, so removals go first.
  private func handleMessages(count: Int, takesFaults: Bool) {
    let messages = pages.messages
    func event(_ index: Int) -> UserfaultEvent {
      let start = index * UserfaultEvent.byteCount
      return UserfaultEvent(
        UnsafeRawBufferPointer(rebasing: messages[start..<(start + UserfaultEvent.byteCount)])
      )
    }
    for index in 0..<count {
      switch event(index) {
      case .removed(let first, let end): remove(first, end)
      case .forked(let descriptor) where takesFaults:
        // Closed, it would let the child read zeros.
        forks.append(descriptor)
        warnOnce("it was forked; the child's pages are not served")
      case .moved: warnOnce("it has moved its RAM; pages there are not served any more")
      default: break
      }
    }
    for index in 0..<count {
      if takesFaults, case .fault(let address) = event(index) {
        faults.append((address, Self.nanoseconds))
      }
      messages[index * UserfaultEvent.byteCount] = 0
    }
  }

  private func remove(_ first: UInt64, _ end: UInt64) {
    var count: UInt64 = 0
    for piece in vm.map.pieces where piece.address < end && piece.endAddress > first {
      let low = max(first, piece.address) - piece.address
      let high = min(end, piece.endAddress) - piece.address
      let pfns =
        (piece.firstPFN + low >> UInt64(Page.shift))..<(piece.firstPFN + high >> UInt64(Page.shift))
      for unit in vm.map.units(of: pfns, in: piece) { pages.take(unit) }
      count += UInt64(pfns.count)
    }
    server.counter.add { $0.removedPageCount += count }
  }

  // MARK: Faults

  /// Whether the answer to a fault need not wait for a remote. Otherwise its pages come, before all others.
  private func isHere(_ address: UInt64) -> Bool {
    guard !server.reader.hasAllChunks, let piece = vm.map.piece(holding: address) else {
      return true
    }
    let offset = (address - piece.address) / vm.map.unitByteCount
    let first = piece.firstPFN + offset * vm.map.unitPageCount
    guard !pages.isTaken(piece.firstUnit + Int(offset)) else { return true }
    return server.reader.isHere(first..<(first + vm.map.unitPageCount), isNeeded: true)
  }

  private func answer(_ address: UInt64, since start: UInt64) throws(VMEnded) {
    guard let piece = vm.map.piece(holding: address) else {
      warnOnce("it waits for a page that is not in the RAM that it has named")
      return
    }
    answeredAt = 0
    defer {
      if answeredAt == 0 { answeredAt = Self.nanoseconds }
      server.counter.addFault(nanoseconds: answeredAt - start)
    }
    let offset = (address - piece.address) / vm.map.unitByteCount
    let first = piece.firstPFN + offset * vm.map.unitPageCount
    let unit = first..<(first + vm.map.unitPageCount)
    guard !pages.isTaken(piece.firstUnit + Int(offset)) else { return try putZeros(unit, piece) }
    guard vm.map.unitPageCount == 1 else {
      recorder?.note(unit)
      return try putStored(unit, piece, for: .fault(first))
    }
    let run = server.reader.run(around: PFN(unchecked: first))
    guard !run.isStored else {
      return try answer(first, of: run.pfns.clamped(to: piece.pfns), piece)
    }
    // Who waits goes on first.
    try putZeros(unit, piece)
    answeredAt = Self.nanoseconds
    let block = first & ~(Self.zeroBlockPageCount - 1)
    let near = run.pfns.clamped(to: piece.pfns).clamped(
      to: block..<(block + Self.zeroBlockPageCount)
    )
    recorder?.note(near)
    try putZeros(near.lowerBound..<first, piece)
    try putZeros((first + 1)..<max(first + 1, near.upperBound), piece)
  }

  /// Puts a stored page in place, and leaves the others of its run for when nobody waits, or for the run's third fault.
  /// Where the VM reads on from run to run, all come at once: one by one, each page would be a fault.
  private func answer(
    _ pfn: UInt64,
    of run: Range<UInt64>,
    _ piece: GuestAddressMap.Piece
  ) throws(VMEnded) {
    let owedIndex = owed.lastIndex { $0.pfns.contains(pfn) }
    var next = owedIndex.map { owed.remove(at: $0) } ?? Owed(pfns: run, piece: piece)
    if owedIndex == nil { recorder?.note(run) }
    // Without its connection nothing is put in place for this VM later on.
    let isWhole =
      next.faultCount == 2 || streamEnds.contains(run.lowerBound) || hasPeerClosed()
    guard !isWhole, case .done = try putAlone(pfn, piece, keepsChunk: next.faultCount == 1) else {
      streamEnds[streamIndex] = run.upperBound
      streamIndex = (streamIndex + 1) % streamEnds.count
      return try putStored(run, piece, for: .fault(pfn))
    }
    answeredAt = Self.nanoseconds
    next.faultCount += 1
    guard run.count > 1 else { return }
    if owed.count == Self.owedRunCapacity { owed.removeFirst() }
    owed.append(next)
  }

  /// Puts pages in place that were left when others were waited for, those last that were left first.
  ///
  /// - Returns: Whether there were any.
  private func putOwed() throws(VMEnded) -> Bool {
    guard !owed.isEmpty else { return false }
    if hasPeerClosed() { owed = [] }
    guard let next = owed.popLast() else { return false }
    // It may have come from a remote, and gone again.
    if server.reader.isHere(next.pfns, isNeeded: false) {
      try putStored(next.pfns, next.piece, for: .neighbour)
    }
    return true
  }

  static var nanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  func warnOnce(_ message: String) {
    guard warned.count < 16, warned.insert(message).inserted else { return }
    warn("VM \(vm.id) (process \(vm.process)): \(message)")
  }
}
