import Synchronization
import VMCheckpoint

/// Reads RAM whose pages are in place. Runs of zeros are skipped.
///
/// One thread after the other claims a window, and each reads its own.
final class QEMUInPlaceReader: RAMReader {
  private struct Position {
    var piece = 0
    /// Into the piece.
    var pageIndex: UInt64 = 0
    var sequence = 0
    /// The sum of the pieces before this one.
    var donePageCount: UInt64 = 0
    var keptIndex = 0
  }

  private let pages: QEMURAMInPlace
  private let layout: RAMLayout
  /// Where RAM is in the sequence of blocks. A region may be several pieces.
  private let placement: RAMPlacement
  /// PFNs that must be visited even where all is zero, ascending.
  private let keptPFNs: [UInt64]
  private let position = Mutex(Position())

  let totalByteCount: UInt64?

  init(
    _ pages: QEMURAMInPlace,
    layout: RAMLayout,
    placement: RAMPlacement,
    keptPFNs: [UInt64]
  ) {
    self.pages = pages
    self.layout = layout
    self.placement = placement
    self.keptPFNs = keptPFNs
    totalByteCount = layout.byteCount
  }

  func finalLayout() -> RAMLayout { layout }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    guard let offset = position.withLock({ claim(&$0, window) }) else { return false }
    try pages.read(pageCount: window.pageCount, at: offset, into: window.bytes)
    return true
  }

  /// Sets the window's PFNs; returns where in the sequence of blocks it begins, or `nil` at the end.
  private func claim(_ position: inout Position, _ window: RAMWindow) -> UInt64? {
    while position.piece < placement.pieces.count {
      let piece = placement.pieces[position.piece]
      if let start = next(&position, in: piece) {
        let count = min(UInt64(RAMWindow.pageCapacity), piece.pageCount - start)
        window.firstPFN = piece.firstPFN + start
        window.pageCount = Int(count)
        window.sequence = position.sequence
        position.sequence += 1
        position.pageIndex = start + count
        window.sourceEndOffset =
          (position.donePageCount + position.pageIndex) << UInt64(Page.shift)
        return piece.fileOffset + start << UInt64(Page.shift)
      }
      position.piece += 1
      position.donePageCount += piece.pageCount
      position.pageIndex = 0
    }
    return nil
  }

  /// The next page of `piece` that is not zero, or must be visited anyway.
  private func next(_ position: inout Position, in piece: RAMPlacement.Piece) -> UInt64? {
    let start = position.pageIndex
    guard start < piece.pageCount else { return nil }
    while position.keptIndex < keptPFNs.count,
      keptPFNs[position.keptIndex] < piece.firstPFN + start
    {
      position.keptIndex += 1
    }
    var end = piece.pageCount
    if position.keptIndex < keptPFNs.count {
      end = min(end, keptPFNs[position.keptIndex] - piece.firstPFN)
    }
    let zeroCount = pages.zeroPageCount(
      at: piece.fileOffset + start << UInt64(Page.shift),
      limit: Int(end - start)
    )
    let found = start + UInt64(zeroCount)
    return found < piece.pageCount ? found : nil
  }
}
