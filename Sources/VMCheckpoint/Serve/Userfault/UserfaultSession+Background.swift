import CLinux
import Glibc

/// What a session does while nobody waits: the working set first, then all other pages, and the end.
extension UserfaultSession {
  /// What one step of playing a working set covers of zeros.
  private static let playedZeroPageCount: UInt64 = 512

  /// Puts the next stored pages in place, if there are any, and goes on behind them.
  ///
  /// - Returns: `false` when they come from a remote, and are not here yet.
  func advance() throws(VMEnded) -> Bool {
    let piece = vm.map.pieces[cursor.piece]
    let rest = vm.map.units(of: cursor.pfn..<piece.pfns.upperBound, in: piece)
    guard let unit = pages.firstFree(in: rest) else {
      nextPiece()
      return true
    }
    let first = piece.firstPFN + UInt64(unit - piece.firstUnit) * vm.map.unitPageCount
    let run = run(from: first, in: piece)
    if run.isStored {
      guard server.reader.isHere(run.pfns, isNeeded: false) else { return false }
      try putStored(run.pfns, piece, for: .background)
    }
    if run.pfns.upperBound < piece.pfns.upperBound {
      cursor.pfn = run.pfns.upperBound
    } else {
      nextPiece()
    }
    return true
  }

  /// What one answer can give from the first page of a unit on.
  private func run(from first: UInt64, in piece: GuestAddressMap.Piece) -> SnapshotReader.Run {
    guard vm.map.unitPageCount > 1 else {
      var run = server.reader.run(around: PFN(unchecked: first))
      run.pfns = run.pfns.clamped(to: first..<piece.pfns.upperBound)
      return run
    }
    let pfns = first..<(first + vm.map.unitPageCount)
    var isStored = false
    var next = pfns.lowerBound
    while !isStored, next < pfns.upperBound {
      let run = server.reader.run(around: PFN(unchecked: next))
      isStored = run.isStored
      next = run.pfns.upperBound
    }
    return SnapshotReader.Run(isStored: isStored, pfns: pfns)
  }

  /// Puts the next pages of the working set in place, if there are any, and goes on behind them.
  ///
  /// - Returns: Whether there were any that are here. Where the VM has no RAM, or none that is free, nothing is put in
  ///   place.
  func playWorkingSet() throws(VMEnded) -> Bool {
    guard let runs = workingSets.played?.runs, play.run < runs.count else { return false }
    let wanted = runs[play.run]
    let pfn = max(play.pfn, wanted.lowerBound)
    guard pfn < wanted.upperBound, let piece = vm.map.piece(holdingOrBehind: pfn),
      piece.firstPFN < wanted.upperBound
    else {
      play = (play.run + 1, 0)
      return true
    }
    let start = max(pfn, piece.firstPFN)
    let units = vm.map.units(
      of: start..<min(wanted.upperBound, piece.pfns.upperBound),
      in: piece
    )
    guard let unit = pages.firstFree(in: units) else {
      play.pfn = piece.pfns.upperBound
      return true
    }
    let first = piece.firstPFN + UInt64(unit - piece.firstUnit) * vm.map.unitPageCount
    var run = run(from: first, in: piece)
    if vm.map.unitPageCount == 1 { run.pfns = run.pfns.clamped(to: first..<wanted.upperBound) }
    if run.isStored {
      // They come in this order.
      guard server.reader.isHere(run.pfns, isNeeded: false) else { return false }
      try putStored(run.pfns, piece, for: .workingSet)
    } else {
      // As many at once as leave no fault waiting for long.
      let pageCount = max(vm.map.unitPageCount, Self.playedZeroPageCount)
      run.pfns = run.pfns.clamped(to: first..<(first + pageCount))
      try putZeros(run.pfns, piece, for: .workingSet)
    }
    play.pfn = run.pfns.upperBound
    return true
  }

  private func nextPiece() {
    cursor.piece += 1
    if cursor.piece < vm.map.pieces.count { cursor.pfn = vm.map.pieces[cursor.piece].firstPFN }
  }

  /// Gives the memory back to the kernel, whose zeros are right now wherever there is no page.
  ///
  /// - Returns: Whether that was possible.
  func complete() throws(VMEnded) -> Bool {
    for piece in vm.map.pieces {
      try unregister(piece.address, piece.endAddress - piece.address)
    }
    // An event may be on its way, and its thread waits until it is read. The kernel says so.
    while true {
      try readEvents()
      guard case .eventWaits = probe() else { return true }
      usleep(100)
    }
  }

  /// Gives a range back, as far as it is still mapped: elsewhere nobody can wait any more.
  ///
  /// The kernel wakes who waits before it gives the range back, and who comes in between would wait for ever. So all
  /// are woken once more.
  private func unregister(_ address: UInt64, _ byteCount: UInt64) throws(VMEnded) {
    if clinux_uffd_unregister(vm.userfaultfd, address, byteCount) == 0 {
      return userfaultfd.wake(address, byteCount)
    }
    if errno == ESRCH { throw VMEnded() }
    guard byteCount > vm.map.unitByteCount else { return }
    let half = byteCount / vm.map.unitByteCount / 2 * vm.map.unitByteCount
    try unregister(address, half)
    try unregister(address + half, byteCount - half)
  }
}
