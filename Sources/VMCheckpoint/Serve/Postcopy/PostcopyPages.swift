/// The pages of a snapshot on their way to a VM that is the target of a postcopy migration: which of them were sent,
/// which answer a request, and which come next in the background.
///
/// Pages are counted through the VM's memory blocks, which one after the other make up flat RAM.
/// Only stored pages need to be sent: the kernel has zeros for all others when the migration is over.
package struct PostcopyPages {
  /// Pages of one block that are alike, and not sent yet.
  package struct Run: Hashable, Sendable {
    /// The block's index.
    package var block: Int
    /// Pages of the block.
    package var pages: Range<UInt64>
    /// Whether they are stored, or an overlay's; otherwise every byte is 0.
    package var isStored: Bool
  }

  /// A memory region, in pages of flat RAM.
  private struct Piece {
    var pages: Range<UInt64>
    var firstPFN: UInt64
  }

  /// Pages of zeros in one answer to a request: aligned, so that requests side by side do not overlap.
  private static let zeroBlockPageCount: UInt64 = 64

  private let reader: SnapshotReader
  /// In ascending order of page.
  private let pieces: [Piece]
  /// The blocks' pages.
  private let blocks: [Range<UInt64>]
  /// A bit for each page: it was sent.
  private var sent: [UInt64]
  /// Where the background goes on.
  private var cursor: UInt64 = 0
  /// Whether pages were passed over that could not be read.
  package private(set) var hasSkipped = false

  /// - Parameters:
  ///   - server: Has the pages.
  ///   - blockByteCounts: The sizes of the blocks.
  /// - Throws: ``VMCheckpointError``: `corrupt` when the blocks are not the snapshot's RAM.
  package init(_ server: PageServer, blockByteCounts: [UInt64]) throws(VMCheckpointError) {
    reader = server.reader
    let layout = reader.layout
    var blocks: [Range<UInt64>] = []
    var end: UInt64 = 0
    for byteCount in blockByteCounts {
      let pageCount = Page.count(inByteCount: byteCount)
      guard byteCount % UInt64(Page.byteCount) == 0, pageCount > 0,
        pageCount <= Page.count(inByteCount: layout.fileByteCount) - end
      else { throw Self.wrongBlocks(reader) }
      blocks.append(end..<(end + pageCount))
      end += pageCount
    }
    guard end << UInt64(Page.shift) == layout.fileByteCount,
      layout.byteCount == layout.fileByteCount
    else { throw Self.wrongBlocks(reader) }
    self.blocks = blocks
    pieces = layout.regions.sorted { $0.fileOffset < $1.fileOffset }.map { region in
      let first = Page.count(inByteCount: region.fileOffset)
      return Piece(pages: first..<(first + region.pageCount), firstPFN: region.firstPFN.rawValue)
    }
    try LargeMemory.require(byteCount: Int(end / 8) + 8)
    sent = [UInt64](repeating: 0, count: Int((end + 63) / 64))
  }

  private static func wrongBlocks(_ reader: SnapshotReader) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "snapshot \(quotedName(reader.name)) has another size of RAM than the machine that it describes"
    )
  }

  /// The number of pages in a block.
  package func pageCount(ofBlock block: Int) -> UInt64 { UInt64(blocks[block].count) }

  /// Whether nothing of these pages is left to send.
  ///
  /// - Precondition: The block has the pages.
  package func areSent(_ pages: Range<UInt64>, ofBlock block: Int) -> Bool {
    let start = blocks[block].lowerBound
    let end = start + pages.upperBound
    return firstUnsent(in: (start + pages.lowerBound)..<end) == end
  }

  /// What answers a request for `pages`: the runs around them that are not sent, those first that were asked for.
  ///
  /// - Precondition: The block has the pages.
  package func runs(answering pages: Range<UInt64>, ofBlock block: Int) -> [Run] {
    let start = blocks[block].lowerBound
    var runs: [Run] = []
    var next = start + pages.lowerBound
    let end = start + pages.upperBound
    while next < end {
      let whole = run(around: next, in: blocks[block])
      var near = whole.pages
      if !whole.isStored {
        let first = next & ~(Self.zeroBlockPageCount - 1)
        near = near.clamped(to: first..<(first + Self.zeroBlockPageCount))
      }
      // Who waits goes on first.
      append(next..<near.upperBound, whole.isStored, block, to: &runs)
      append(near.lowerBound..<next, whole.isStored, block, to: &runs)
      next = near.upperBound
    }
    return runs
  }

  /// Whether what answers a request for `pages` can be read without waiting for a remote. What cannot comes.
  ///
  /// - Parameter isNeeded: Whether somebody waits for it.
  /// - Precondition: The block has the pages.
  package func areHere(_ pages: Range<UInt64>, ofBlock block: Int, isNeeded: Bool) -> Bool {
    guard !reader.hasAllChunks else { return true }
    var areHere = true
    for run in runs(answering: pages, ofBlock: block) where run.isStored {
      if !reader.isHere(pfns(of: run), isNeeded: isNeeded) { areHere = false }
    }
    return areHere
  }

  /// Changes whenever ``areHere(_:ofBlock:isNeeded:)`` may answer otherwise than before.
  package var arrivalCount: Int { reader.arrivalCount }

  /// The first PFN behind all RAM.
  package var endPFN: UInt64 { reader.layout.endPFN }

  /// Where pages of the guest are in its blocks. What is not its RAM is left out.
  package func places(of pfns: Range<UInt64>) -> [(block: Int, pages: Range<UInt64>)] {
    var places: [(block: Int, pages: Range<UInt64>)] = []
    for piece in pieces {
      let pfns = pfns.clamped(to: piece.firstPFN..<(piece.firstPFN + UInt64(piece.pages.count)))
      guard !pfns.isEmpty else { continue }
      let first = piece.pages.lowerBound + (pfns.lowerBound - piece.firstPFN)
      for (index, block) in blocks.enumerated() {
        let pages = (first..<(first + UInt64(pfns.count))).clamped(to: block)
        guard !pages.isEmpty else { continue }
        let start = block.lowerBound
        places.append((index, (pages.lowerBound - start)..<(pages.upperBound - start)))
      }
    }
    return places
  }

  /// The guest's pages that a run is of, which lie in one region.
  package func pfns(of run: Run) -> Range<UInt64> {
    let page = blocks[run.block].lowerBound + run.pages.lowerBound
    let piece = piece(holding: page)
    let first = piece.firstPFN + (page - piece.pages.lowerBound)
    return first..<(first + UInt64(run.pages.count))
  }

  /// The next stored pages that were not sent; `nil` when there are none any more.
  package mutating func nextInBackground() -> Run? {
    while cursor < UInt64(sent.count) << 6 {
      let limit = blocks.last!.upperBound
      let first = firstUnsent(in: cursor..<limit)
      guard first < limit else { break }
      let block = blocks.firstIndex { $0.contains(first) }!
      let whole = run(around: first, in: blocks[block])
      guard whole.isStored else {
        cursor = whole.pages.upperBound
        continue
      }
      var end = first + 1
      while end < whole.pages.upperBound, !isSent(end) { end += 1 }
      cursor = end
      let start = blocks[block].lowerBound
      return Run(block: block, pages: (first - start)..<(end - start), isStored: true)
    }
    cursor = blocks.last!.upperBound
    return nil
  }

  /// Passes pages over that cannot be read: they are not sent unless somebody asks for them.
  package mutating func skip() { hasSkipped = true }

  /// Notes that pages are sent.
  package mutating func markSent(_ run: Run) {
    let start = blocks[run.block].lowerBound
    for page in run.pages { mark(start + page) }
  }

  /// Notes which pages a VM has already.
  ///
  /// - Parameter bitmap: A bit for each page of the block, the first one the lowest of the first byte.
  /// - Precondition: The bitmap has no less bits than the block has pages.
  package mutating func markReceived(_ bitmap: [UInt8], block: Int) {
    let start = blocks[block].lowerBound
    for page in 0..<pageCount(ofBlock: block)
    where bitmap[Int(page >> 3)] & 1 << UInt8(page & 7) != 0 {
      mark(start + page)
    }
  }

  /// Copies a run's pages.
  ///
  /// - Parameter buffer: Has the run's size.
  /// - Throws: As ``SnapshotReader/read(from:into:)``.
  package func read(
    _ run: Run,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) {
    try reader.read(from: PFN(unchecked: pfns(of: run).lowerBound), into: buffer)
  }

  // MARK: Pages of flat RAM

  private func piece(holding page: UInt64) -> Piece {
    var (low, high) = (0, pieces.count - 1)
    while low < high {
      let middle = (low + high) / 2
      if pieces[middle].pages.upperBound <= page { low = middle + 1 } else { high = middle }
    }
    return pieces[low]
  }

  /// The pages that are one with `page`, as far as they lie in its region and in `block`.
  private func run(
    around page: UInt64,
    in block: Range<UInt64>
  ) -> (pages: Range<UInt64>, isStored: Bool) {
    let piece = piece(holding: page)
    let run = reader.run(around: PFN(unchecked: piece.firstPFN + (page - piece.pages.lowerBound)))
    let pfns = run.pfns.clamped(to: piece.firstPFN..<(piece.firstPFN + UInt64(piece.pages.count)))
    let first = piece.pages.lowerBound + (pfns.lowerBound - piece.firstPFN)
    let pages = (first..<(first + UInt64(pfns.count))).clamped(to: block)
    return (pages, run.isStored)
  }

  private func append(
    _ pages: Range<UInt64>,
    _ isStored: Bool,
    _ block: Int,
    to runs: inout [Run]
  ) {
    let start = blocks[block].lowerBound
    var next = firstUnsent(in: pages)
    while next < pages.upperBound {
      var end = next + 1
      while end < pages.upperBound, !isSent(end) { end += 1 }
      runs.append(Run(block: block, pages: (next - start)..<(end - start), isStored: isStored))
      next = firstUnsent(in: end..<pages.upperBound)
    }
  }

  private func isSent(_ page: UInt64) -> Bool { sent[Int(page >> 6)] & 1 << (page & 63) != 0 }

  private mutating func mark(_ page: UInt64) { sent[Int(page >> 6)] |= 1 << (page & 63) }

  /// The first page that was not sent; the end when all were.
  private func firstUnsent(in pages: Range<UInt64>) -> UInt64 {
    var page = pages.lowerBound
    while page < pages.upperBound {
      let rest = ~sent[Int(page >> 6)] >> (page & 63)
      if rest != 0 { return min(page + UInt64(rest.trailingZeroBitCount), pages.upperBound) }
      page = (page | 63) + 1
    }
    return pages.upperBound
  }
}
