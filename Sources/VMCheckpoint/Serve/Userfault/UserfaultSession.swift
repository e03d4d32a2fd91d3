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
  private static let probeMilliseconds: Int32 = 1000
  /// Where no RAM is: the lowest address that may be mapped. The kernel does not check that memory is of the
  /// userfaultfd through which something is put there. So in a VM's own range a probe could hit the RAM of the
  /// process's next VM.
  private static let probeAddress: UInt64 = 64 << 10
  private static let retryMilliseconds: UInt32 = 20

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

  /// Why pages are put in place.
  enum Cause {
    /// Somebody waits for the unit that begins with this page.
    case fault(UInt64)
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
  private let buffer: UnsafeMutableRawBufferPointer
  private var faults: [(address: UInt64, since: UInt64)] = []
  private var nextFault = 0
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
  private var isStopping = false
  private var isPeerClosed = false
  private var cannotComplete = false
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
        try readEvents()
        if nextFault < faults.count {
          let fault = faults[nextFault]
          nextFault += 1
          if isHere(fault.address) {
            try answer(fault.address, since: fault.since)
          } else {
            putOff.append(fault)
          }
          continue
        }
        faults.removeAll(keepingCapacity: true)
        nextFault = 0
        let arrivalCount = server.reader.arrivalCount
        let hasArrivals = arrivalCount != self.arrivalCount
        self.arrivalCount = arrivalCount
        if hasArrivals, !putOff.isEmpty {
          swap(&faults, &putOff)
          continue
        }
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
    defer { server.counter.addFault(nanoseconds: Self.nanoseconds - start) }
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
      let pfns = run.pfns.clamped(to: piece.pfns)
      recorder?.note(pfns)
      return try putStored(pfns, piece, for: .fault(first))
    }
    // Who waits goes on first.
    try putZeros(unit, piece)
    let block = first & ~(Self.zeroBlockPageCount - 1)
    let near = run.pfns.clamped(to: piece.pfns).clamped(
      to: block..<(block + Self.zeroBlockPageCount)
    )
    recorder?.note(near)
    try putZeros(near.lowerBound..<first, piece)
    try putZeros((first + 1)..<max(first + 1, near.upperBound), piece)
  }

  private static var nanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// Puts zeros where nothing is, and wakes who waits.
  func putZeros(
    _ pfns: Range<UInt64>,
    _ piece: GuestAddressMap.Piece,
    for cause: Cause? = nil
  ) throws(VMEnded) {
    var next = pfns.lowerBound
    while next < pfns.upperBound {
      let address = piece.address(of: next)
      let byteCount = (pfns.upperBound - next) << UInt64(Page.shift)
      var outcome = userfaultfd.zero(address, byteCount)
      if case .unsupported = outcome {
        // Huge pages have no zero page.
        let zeros = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(vm.map.unitByteCount)])
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        outcome = userfaultfd.copy(UnsafeRawBufferPointer(zeros), to: address)
      }
      if let done = try note(outcome, at: next, piece) {
        if case .done = outcome {
          if let cause {
            count(done, cause)
          } else {
            server.counter.add { $0.zeroPageCount += done }
          }
        }
        next += done
      }
    }
  }

  /// Puts pages of the snapshot in place, as far as they are not taken.
  ///
  /// - Parameters:
  ///   - pfns: At most what the buffer holds.
  ///   - cause: Why.
  func putStored(
    _ pfns: Range<UInt64>,
    _ piece: GuestAddressMap.Piece,
    for cause: Cause
  ) throws(VMEnded) {
    let fault = cause.faultPFN
    guard try readPages(pfns) else {
      if let fault {
        try poison(fault, piece)
      } else if isStopping {
        for first in stride(from: pfns.lowerBound, to: pfns.upperBound, by: unitStride) {
          try poison(first, piece)
        }
      } else {
        hasSkipped = true
      }
      return
    }
    var isAnswered = fault == nil
    var next = pfns.lowerBound
    while next < pfns.upperBound {
      let units = vm.map.units(of: next..<pfns.upperBound, in: piece)
      guard !pages.isTaken(units.lowerBound) else {
        next += vm.map.unitPageCount
        continue
      }
      let free = UInt64(pages.firstTaken(in: units) - units.lowerBound) * vm.map.unitPageCount
      let start = Int(next - pfns.lowerBound) * Page.byteCount
      let bytes = UnsafeRawBufferPointer(
        rebasing: buffer[start..<(start + Int(free) * Page.byteCount)]
      )
      let outcome = userfaultfd.copy(bytes, to: piece.address(of: next))
      guard let done = try note(outcome, at: next, piece) else { continue }
      if case .done = outcome { count(done, cause) }
      if let fault, (next..<(next + done)).contains(fault) { isAnswered = true }
      next += done
    }
    // It was removed just now.
    if !isAnswered, let fault { try putZeros(fault..<(fault + vm.map.unitPageCount), piece) }
  }

  private var unitStride: UInt64.Stride { UInt64.Stride(vm.map.unitPageCount) }

  private func count(_ pageCount: UInt64, _ cause: Cause) {
    server.counter.add {
      switch cause {
      case .fault: $0.faultPageCount += pageCount
      case .workingSet: $0.workingSetPageCount += pageCount
      case .background: $0.backgroundPageCount += pageCount
      }
    }
  }

  /// Notes how it went to put pages in place from `pfn` on.
  ///
  /// - Returns: How many pages are done with; `nil`: try again, when events may have taken some of them.
  private func note(
    _ outcome: Userfaultfd.Outcome,
    at pfn: UInt64,
    _ piece: GuestAddressMap.Piece
  ) throws(VMEnded) -> UInt64? {
    var pageCount = vm.map.unitPageCount
    switch outcome {
    case .done(let byteCount): pageCount = byteCount >> UInt64(Page.shift)
    case .present: userfaultfd.wake(piece.address(of: pfn), vm.map.unitByteCount)
    case .notMapped: break
    case .eventWaits:
      try readEvents()
      return nil
    case .ended: throw VMEnded()
    case .unsupported:
      warnOnce("the kernel does not put pages there (EINVAL)")
      cannotComplete = true
    case .failed(let code):
      warnOnce("cannot put pages in place: \(String(cString: strerror(code)))")
      usleep(Self.retryMilliseconds * 1000)
      return nil
    }
    for unit in vm.map.units(of: pfn..<(pfn + pageCount), in: piece) { pages.take(unit) }
    return pageCount
  }

  /// Reads pages into the buffer; tries again while the store cannot be read for another reason than damage.
  ///
  /// - Returns: Whether they are the right ones.
  private func readPages(_ pfns: Range<UInt64>) throws(VMEnded) -> Bool {
    let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(pfns.count * Page.byteCount)])
    while true {
      do throws(VMCheckpointError) {
        try server.reader.read(from: PFN(unchecked: pfns.lowerBound), into: bytes)
        return true
      } catch {
        warnOnce(error.message)
        if error.isDamage || error.code == .notFound { return false }
        usleep(Self.retryMilliseconds * 1000)
        try readEvents()
      }
    }
  }

  /// Makes an access to a page an error, for as long as the VMM does not drop it. Never zeros.
  private func poison(_ pfn: UInt64, _ piece: GuestAddressMap.Piece) throws(VMEnded) {
    let address = piece.address(of: pfn)
    while true {
      let outcome = userfaultfd.poison(address, vm.map.unitByteCount)
      if case .unsupported = outcome {
        // Linux before 6.6. Who waits, waits until it is ended.
        cannotComplete = true
        if vm.process > 0 { kill(vm.process, SIGBUS) }
        return
      }
      guard try note(outcome, at: pfn, piece) != nil else { continue }
      server.counter.add { $0.poisonedPageCount += vm.map.unitPageCount }
      return
    }
  }

  private func warnOnce(_ message: String) {
    guard warned.count < 16, warned.insert(message).inserted else { return }
    warn("VM \(vm.id) (process \(vm.process)): \(message)")
  }
}
