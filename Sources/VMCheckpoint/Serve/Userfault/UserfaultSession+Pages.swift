import CLinux
import Glibc

/// How pages are put in place, and noted as taken.
extension UserfaultSession {
  private static let retryMilliseconds: UInt32 = 20

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
    guard try readPages(pfns, for: cause) else {
      if let fault {
        try settle(fault, piece)
      } else if case .neighbour = cause {
        // Who touches them hears of it.
      } else if isStopping {
        for first in stride(from: pfns.lowerBound, to: pfns.upperBound, by: unitStride)
        where !pages.isTaken(unit(first, piece)) {
          try settle(first, piece)
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
      case .fault, .neighbour: $0.faultPageCount += pageCount
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

  /// Reads pages into the buffer; tries again while the store cannot be read for another reason than damage, unless
  /// nobody needs them now.
  ///
  /// - Returns: Whether they are the right ones.
  private func readPages(_ pfns: Range<UInt64>, for cause: Cause) throws(VMEnded) -> Bool {
    let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(pfns.count * Page.byteCount)])
    while true {
      do throws(VMCheckpointError) {
        try server.reader.read(from: PFN(unchecked: pfns.lowerBound), into: bytes)
        return true
      } catch {
        if case .neighbour = cause { return false }
        warnOnce(error.message)
        if error.isDamage || error.code == .notFound { return false }
        usleep(Self.retryMilliseconds * 1000)
        try readEvents()
      }
    }
  }

  private func unit(_ pfn: UInt64, _ piece: GuestAddressMap.Piece) -> Int {
    vm.map.units(of: pfn..<(pfn + vm.map.unitPageCount), in: piece).lowerBound
  }

  /// Gives a unit of a damaged run what it is to have: zeros if it is taken, its page if that can still be proved, or
  /// an error for whoever touches it.
  private func settle(_ pfn: UInt64, _ piece: GuestAddressMap.Piece) throws(VMEnded) {
    while true {
      guard !pages.isTaken(unit(pfn, piece)) else {
        return try putZeros(pfn..<(pfn + vm.map.unitPageCount), piece)
      }
      switch try putAlone(pfn, piece) {
      case .done: return
      // Events were read, which may have taken it.
      case .again: continue
      case .unreadable: if try poison(pfn, piece) { return }
      }
    }
  }

  /// What became of a page that was to be put in place alone.
  enum Alone {
    /// It is there.
    case done
    /// The kernel did not take it; what it had to say was read.
    case again
    /// It cannot be proved alone.
    case unreadable
  }

  /// Puts one stored page in place that is not taken, before anything beside it.
  ///
  /// - Parameter keepsChunk: Whether its chunk is decoded as a whole, since more of it is likely to be touched.
  func putAlone(
    _ pfn: UInt64,
    _ piece: GuestAddressMap.Piece,
    keepsChunk: Bool = false
  ) throws(VMEnded) -> Alone {
    guard vm.map.unitPageCount == 1 else { return .unreadable }
    let page = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Page.byteCount])
    let isRead =
      keepsChunk
      ? (try? server.reader.read(from: PFN(unchecked: pfn), into: page)) != nil
      : server.reader.readAlone(PFN(unchecked: pfn), into: page)
    guard isRead else { return .unreadable }
    let outcome = userfaultfd.copy(UnsafeRawBufferPointer(page), to: piece.address(of: pfn))
    guard try note(outcome, at: pfn, piece) != nil else { return .again }
    if case .done = outcome { count(1, .fault(pfn)) }
    return .done
  }

  /// Makes an access to a page an error, for as long as the VMM does not drop it. Never zeros.
  ///
  /// - Returns: `false` when that was not possible yet, and events were read, which may have taken the page.
  private func poison(_ pfn: UInt64, _ piece: GuestAddressMap.Piece) throws(VMEnded) -> Bool {
    let outcome = userfaultfd.poison(piece.address(of: pfn), vm.map.unitByteCount)
    if case .unsupported = outcome {
      // Linux before 6.6. Who waits, waits until it is ended.
      cannotComplete = true
      if vm.process > 0 { kill(vm.process, SIGBUS) }
      return true
    }
    guard try note(outcome, at: pfn, piece) != nil else { return false }
    if case .done = outcome { server.counter.add { $0.poisonedPageCount += vm.map.unitPageCount } }
    return true
  }
}
