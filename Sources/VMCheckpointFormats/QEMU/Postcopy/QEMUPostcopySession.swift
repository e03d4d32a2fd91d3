import Glibc
import VMCheckpoint

/// The source of one postcopy migration: sends a guest, and then its pages, first those that it waits for.
///
/// One thread does all. It has at most one answer on its way, so that a request never waits behind more than that and what
/// the kernel has of it. It never waits for a remote: what is not here is asked for, and others go first.
final class QEMUPostcopySession {
  /// QEMU answers a ping at once, unless its host is very busy or it waits for something else.
  private static let answerSeconds = 60.0
  private static let pollMilliseconds: Int32 = 100
  private static let retrySeconds = 0.1
  /// More requests than any guest has threads. While there are so many, no more are read.
  private static let maximumRequestCount = 4096
  private static let workingSetPageCount: UInt64 = 64
  /// The most that one request may ask for.
  private static let maximumRequestedPageCount: UInt64 = 512

  /// What was done.
  struct Counts {
    var requestCount: UInt64 = 0
    var requestPageCount: UInt64 = 0
    var zeroPageCount: UInt64 = 0
    var workingSetPageCount: UInt64 = 0
    var backgroundPageCount: UInt64 = 0
    var times = LatencyHistogram()
    /// From the first byte until QEMU had loaded all devices, and let the guest run.
    var secondsToRun: Double?
    /// From the first byte until all pages were sent.
    var secondsToSent: Double?
  }

  private struct Request {
    var block: Int
    var pages: Range<UInt64>
    var nanoseconds: UInt64
  }

  private let channel: QEMUPostcopyChannel
  private let stream: QEMUPostcopyStream
  private let control: OperationControl
  private let onRun: (Double) -> Void
  private let blockIndices: [[UInt8]: Int]
  private let prefetches: Bool
  private var pages: PostcopyPages
  private var returnPath = QEMUReturnPath()
  private let buffer: UnsafeMutableRawBufferPointer
  private(set) var counts = Counts()
  private var requests: [Request] = []
  private var answering: Request?
  /// The PFNs that the guest touches first, in that order.
  private var workingSet: ArraySlice<Range<UInt64>>
  /// Of these, what was not here when it was its turn.
  private var putOff: [Range<UInt64>] = []
  /// How much had come from remotes when it was looked at again.
  private var arrivalCount = 0
  /// How much had come when nothing was left to send that is here; `nil`: something is.
  private var starvedAt: Int?
  private let bell: Doorbell
  private let workingSets: WorkingSetUse
  /// Where the guest's requests are noted; `nil`: they are not.
  private let recorder: WorkingSetRecorder?
  /// What the background sends next.
  private var nextRun: PostcopyPages.Run?
  private var pongs: Set<UInt32> = []
  private var end: UInt32?
  private var isServing = false
  private var isEndSent = false
  private var retryAt = 0.0
  private var warned: Set<String> = []
  private let beginning = MonotonicClock.nowSeconds
  /// Whether QEMU may have begun to wait for pages, so that only a server of the same snapshot helps it.
  private(set) var mayNeedPages = false

  init(
    _ channel: QEMUPostcopyChannel,
    stream: QEMUPostcopyStream,
    pages: PostcopyPages,
    workingSets: WorkingSetUse,
    prefetches: Bool,
    bell: Doorbell,
    control: OperationControl,
    onRun: @escaping (Double) -> Void
  ) throws(VMCheckpointError) {
    self.channel = channel
    self.stream = stream
    self.pages = pages
    self.workingSets = workingSets
    workingSet = (prefetches ? workingSets.played?.runs ?? [] : [])[...]
    recorder = workingSets.claimRecorder()
    self.prefetches = prefetches
    self.bell = bell
    self.control = control
    self.onRun = onRun
    blockIndices = Dictionary(
      uniqueKeysWithValues: stream.blocks.enumerated().map { (Array($1.name.utf8), $0) }
    )
    // An extent, or a block of zeros.
    buffer = try LargeMemory.allocate(byteCount: 64 * Page.byteCount)
  }

  deinit { LargeMemory.free(buffer) }

  // MARK: Steps

  /// Tells a QEMU that waits for a guest that its pages will come later, for which it has much to prepare.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `inputOutput`.
  func open() throws(VMCheckpointError) {
    channel.append { $0 += stream.opening }
    try channel.send()
  }

  /// Sends the guest after ``open()``, and serves its pages until QEMU has all.
  ///
  /// - Throws: ``VMCheckpointError``: `unavailable` when QEMU, or its host, refuses; `corrupt` when a page that is
  ///   needed is damaged; `invalidData` for what QEMU cannot have sent.
  func start() throws(VMCheckpointError) {
    try run(cancellable: true, refusal: Self.refusedPostcopy) {
      pongs.contains(QEMUPostcopyStream.Ping.advised)
    }
    channel.append { $0 += stream.package }
    mayNeedPages = true
    serve()
    do throws(VMCheckpointError) {
      try run(refusal: Self.refusedGuest) { pongs.contains(QEMUPostcopyStream.Ping.loaded) }
    } catch {
      if channel.isClosed, hasRefusedGuest() { mayNeedPages = false }
      throw error
    }
    let seconds = MonotonicClock.nowSeconds - beginning
    counts.secondsToRun = seconds
    onRun(seconds)
    try finish()
  }

  /// Goes on with a QEMU whose source is gone.
  ///
  /// - Parameter recovered: What another process has found out; `nil`: QEMU is asked.
  /// - Throws: As ``start()``.
  func recover(_ recovered: QEMURecoveredPages?) throws(VMCheckpointError) {
    mayNeedPages = true
    let recovered =
      if let recovered {
        recovered
      } else {
        try QEMURecoveredPages(from: channel, blocks: stream.blocks, control: control)
      }
    for (index, bitmap) in recovered.bitmaps.enumerated() {
      pages.markReceived(bitmap, block: index)
    }
    returnPath.feed(recovered.requests)
    serve()
    onRun(MonotonicClock.nowSeconds - beginning)
    try finish()
  }

  private func serve() {
    isServing = true
  }

  private func finish() throws(VMCheckpointError) {
    try run(refusal: Self.gone) { end != nil }
    guard end == 0 else {
      throw VMCheckpointError(.unavailable, "QEMU ends the migration with error \(end!)")
    }
  }

  /// Sends and receives until `isDone`.
  ///
  /// - Parameters:
  ///   - cancellable: Whether a signal ends it. The guest needs its pages later on.
  ///   - refusal: The error when QEMU goes away, or gives no answer.
  private func run(
    cancellable: Bool = false,
    refusal: VMCheckpointError,
    until isDone: () -> Bool
  ) throws(VMCheckpointError) {
    let deadline = MonotonicClock.nowSeconds + Self.answerSeconds
    while !isDone() {
      if cancellable { try control.cancellation.check() }
      guard !channel.isClosed else { throw refusal }
      if cancellable, MonotonicClock.nowSeconds > deadline {
        throw VMCheckpointError(
          .unavailable,
          "QEMU does not answer on the return path",
          hint: "with multifd or postcopy-preempt it waits for more connections: switch them off"
        )
      }
      try receive()
      if isDone() { break }
      if channel.isIdle {
        noteAnswered()
        if isServing { try produce() }
      }
      try channel.send()
      if channel.isIdle { noteAnswered() }
      if recorder != nil { workingSets.storeIfOver() }
      let canGoOn = channel.isIdle && isServing && hasWork
      channel.wait(milliseconds: canGoOn ? 0 : Self.pollMilliseconds, bell: bell)
    }
  }

  /// Whether a QEMU that has closed the connection had not let the guest run: it says so before.
  private func hasRefusedGuest() -> Bool {
    guard channel.receiveRest({ returnPath.feed($0) }) else { return false }
    while let message = try? returnPath.next() {
      if case .pong(QEMUPostcopyStream.Ping.loaded) = message { return false }
    }
    return !pongs.contains(QEMUPostcopyStream.Ping.loaded)
  }

  private static let refusedPostcopy = VMCheckpointError(
    .unavailable,
    "QEMU refuses a postcopy migration; it says why",
    hint:
      "start the machine that was saved, with -global migration.x-postcopy-ram=on; where it says \"page sizes\", give it RAM without huge "
      + "pages, and else where it says \"Operation not permitted\", run it as root or set "
      + "vm.unprivileged_userfaultfd=1"
  )

  private static let refusedGuest = VMCheckpointError(
    .unavailable,
    "QEMU closed the connection before the guest ran; it says why",
    hint:
      "start the machine that was saved, with RAM that is anonymous or of a memory-backend-memfd"
  )

  private static let gone = VMCheckpointError(
    .unavailable,
    "QEMU closed the connection before it had all pages",
    hint: "if it still runs, go on with: vmckpt serve REF --qemu --recover QMP-SOCKET"
  )

  // MARK: Receiving

  private func receive() throws(VMCheckpointError) {
    guard requests.count < Self.maximumRequestCount else { return }
    try channel.receive { returnPath.feed($0) }
    while let message = try returnPath.next() {
      switch message {
      case .end(let value): end = value
      case .pong(let value):
        guard pongs.count < 16 else { throw QEMUReturnPath.invalid("too many pongs") }
        pongs.insert(value)
      case .received, .resumed: throw QEMUReturnPath.invalid("an answer that was not asked for")
      case .request(let name, let start, let byteCount): try take(name, start, byteCount)
      }
    }
  }

  private static func unknownBlock() -> VMCheckpointError {
    QEMUReturnPath.invalid("a memory block that the guest does not have")
  }

  private func take(
    _ name: [UInt8],
    _ start: UInt64,
    _ byteCount: UInt32
  ) throws(VMCheckpointError) {
    guard let block = blockIndices[name] else {
      guard stream.otherBlocks.contains(name) else { throw Self.unknownBlock() }
      return warnOnce(
        "QEMU asks for a page of a memory block that it has: \(quotedName(String(decoding: name, as: UTF8.self)))"
      )
    }
    let pageByteCount = UInt64(Page.byteCount)
    let pageCount = Page.count(inByteCount: UInt64(byteCount))
    let first = start / pageByteCount
    let limit = pages.pageCount(ofBlock: block)
    guard start % pageByteCount == 0, UInt64(byteCount) % pageByteCount == 0, pageCount > 0,
      pageCount <= Self.maximumRequestedPageCount, first < limit, pageCount <= limit - first
    else { throw QEMUReturnPath.invalid("a request for pages that the guest does not have") }
    counts.requestCount += 1
    let wanted = first..<(first + pageCount)
    // It is on its way.
    guard !pages.areSent(wanted, ofBlock: block) else { return }
    requests.append(Request(block: block, pages: wanted, nanoseconds: Self.nanoseconds))
  }

  private func warnOnce(_ message: String) {
    guard warned.count < 16, warned.insert(message).inserted else { return }
    control.onWarning?(message)
  }

  private static var nanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  // MARK: Sending

  private var hasWork: Bool {
    guard MonotonicClock.nowSeconds >= retryAt, starvedAt != pages.arrivalCount else {
      return false
    }
    return !requests.isEmpty || !workingSet.isEmpty || pushes && !isEndSent
  }

  /// Whether pages are sent that nobody has asked for. Who is to end does so once QEMU needs it no more.
  ///
  /// While the guest's requests are noted, what was pushed would hide them.
  private var pushes: Bool {
    prefetches && recorder?.remainingSeconds ?? 0 == 0 || control.cancellation.isCancelled
  }

  private func noteAnswered() {
    guard let request = answering else { return }
    counts.times.add(Self.nanoseconds - request.nanoseconds)
    answering = nil
  }

  /// Puts the next thing to send into the channel, which is idle.
  private func produce() throws(VMCheckpointError) {
    guard MonotonicClock.nowSeconds >= retryAt else { return }
    starvedAt = nil
    let arrivalCount = pages.arrivalCount
    if arrivalCount != self.arrivalCount {
      self.arrivalCount = arrivalCount
      workingSet = putOff[...] + workingSet
      putOff = []
    }
    let next = requests.firstIndex { pages.areHere($0.pages, ofBlock: $0.block, isNeeded: true) }
    if let next { return try answer(requests[next], at: next) }
    if try sendWorkingSet() { return }
    guard pushes, !isEndSent else {
      if !requests.isEmpty || !putOff.isEmpty { starvedAt = arrivalCount }
      return
    }
    if nextRun == nil { nextRun = pages.nextInBackground() }
    if let run = nextRun {
      // They come in this order, so that others need not go first.
      guard pages.areHere(run.pages, ofBlock: run.block, isNeeded: false) else {
        starvedAt = arrivalCount
        return
      }
      guard let pageCount = try send(run.pages, ofBlock: run.block, isNeeded: false) else { return }
      nextRun = nil
      counts.backgroundPageCount += pageCount
      return
    }
    guard !pages.hasSkipped else {
      throw VMCheckpointError(
        .corrupt,
        "pages of the snapshot are damaged; the guest stays paused once it needs one of them",
        hint: "see what is damaged with: vmckpt verify"
      )
    }
    channel.append { $0 += stream.ending }
    isEndSent = true
    counts.secondsToSent = MonotonicClock.nowSeconds - beginning
  }

  /// Sends the next pages of the working set that are here: not many at once, since somebody may ask for others.
  ///
  /// - Returns: Whether there were any.
  private func sendWorkingSet() throws(VMCheckpointError) -> Bool {
    while let first = workingSet.first {
      let run = first.clamped(to: 0..<pages.endPFN)
      let end = min(run.upperBound, run.lowerBound + Self.workingSetPageCount)
      let places = pages.places(of: run.lowerBound..<end)
      let areHere = places.allSatisfy {
        pages.areHere($0.pages, ofBlock: $0.block, isNeeded: false)
      }
      if areHere {
        for place in places {
          guard let pageCount = try send(place.pages, ofBlock: place.block, isNeeded: false) else {
            return true
          }
          counts.workingSetPageCount += pageCount
        }
      } else {
        putOff.append(run.lowerBound..<end)
      }
      if end < run.upperBound {
        workingSet[workingSet.startIndex] = end..<run.upperBound
      } else {
        workingSet.removeFirst()
      }
      if areHere { return true }
    }
    return false
  }

  private func answer(_ request: Request, at index: Int) throws(VMCheckpointError) {
    guard let pageCount = try send(request.pages, ofBlock: request.block, isNeeded: true) else {
      return
    }
    requests.remove(at: index)
    answering = request
    counts.requestPageCount += pageCount
  }

  /// Puts a part with these pages, and with what is one with them, into the channel.
  ///
  /// - Parameter isNeeded: Whether somebody waits for the pages. Damage ends the server then: QEMU pauses the guest,
  ///   which never sees zeros.
  /// - Returns: How many stored pages are in it; `nil`: nothing, it is to be tried again.
  private func send(
    _ wanted: Range<UInt64>,
    ofBlock block: Int,
    isNeeded: Bool
  ) throws(VMCheckpointError) -> UInt64? {
    // What was sent is never sent twice: QEMU takes that for an error.
    let runs = pages.runs(answering: wanted, ofBlock: block)
    guard !runs.isEmpty else { return 0 }
    var part: [UInt8] = []
    part.reserveCapacity(1 << 16 + 1 << 12)
    stream.beginPart(&part)
    var record = QEMUPageRecord(blockName: Array(stream.blocks[block].name.utf8))
    var storedPageCount: UInt64 = 0
    var zeroPageCount: UInt64 = 0
    do throws(VMCheckpointError) {
      for run in runs {
        let bytes = UnsafeMutableRawBufferPointer(
          rebasing: buffer[..<(run.isStored ? run.pages.count * Page.byteCount : 0)]
        )
        if run.isStored { try pages.read(run, into: bytes) }
        var rest = UnsafeRawBufferPointer(bytes)
        for page in run.pages {
          var contents: UnsafeRawBufferPointer?
          if run.isStored {
            contents = UnsafeRawBufferPointer(rebasing: rest[..<Page.byteCount])
            rest = UnsafeRawBufferPointer(rebasing: rest[Page.byteCount...])
          }
          record.append(contents, at: page << UInt64(Page.shift), to: &part)
        }
        if run.isStored {
          storedPageCount += UInt64(run.pages.count)
        } else {
          zeroPageCount += UInt64(run.pages.count)
        }
      }
    } catch {
      guard error.isDamage || error.code == .notFound else {
        warnOnce(error.message)
        retryAt = MonotonicClock.nowSeconds + Self.retrySeconds
        return nil
      }
      guard !isNeeded else { throw error }
      warnOnce(error.message)
      pages.skip()
      return 0
    }
    stream.endPart(&part)
    channel.append { $0 += part }
    for run in runs { pages.markSent(run) }
    if isNeeded, let recorder { for run in runs { recorder.note(pages.pfns(of: run)) } }
    counts.zeroPageCount += zeroPageCount
    return storedPageCount
  }
}
