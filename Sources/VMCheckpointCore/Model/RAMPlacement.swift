import Algorithms

/// Where RAM is in one or more files: piece by piece, each in one run of pages.
///
/// A flat RAM file has each region at its own offset. A file that holds more than RAM, such as an
/// archive, may have any part of RAM anywhere, even at an offset that is not a multiple of 4096.
package struct RAMPlacement: Hashable, Sendable {
  /// A run of pages that lies in one region and in one run of a file.
  package struct Piece: Hashable, Sendable {
    package var firstPFN: UInt64
    package var pageCount: UInt64
    /// Which of the files.
    package var fileIndex = 0
    /// Where the first page begins in it.
    package var fileOffset: UInt64

    package init(firstPFN: UInt64, pageCount: UInt64, fileIndex: Int = 0, fileOffset: UInt64) {
      self.firstPFN = firstPFN
      self.pageCount = pageCount
      self.fileIndex = fileIndex
      self.fileOffset = fileOffset
    }

    package var byteCount: UInt64 { pageCount << UInt64(Page.shift) }
    package var endPFN: UInt64 { firstPFN + pageCount }
    package var endFileOffset: UInt64 { fileOffset + byteCount }
  }

  /// In ascending order of PFN, without overlap.
  package let pieces: [Piece]

  /// - Precondition: The pieces are in ascending order of PFN, and none holds a page of another.
  package init(pieces: [Piece]) {
    precondition(zip(pieces, pieces.dropFirst()).allSatisfy { $0.endPFN <= $1.firstPFN })
    self.pieces = pieces
  }

  /// A flat RAM file.
  package init(flat layout: RAMLayout) {
    pieces = layout.regions.map {
      Piece(firstPFN: $0.firstPFN.rawValue, pageCount: $0.pageCount, fileOffset: $0.fileOffset)
    }
  }

  /// Each region in one piece, wherever `fileOffset` says.
  package init(_ layout: RAMLayout, fileOffset: (MemoryRegion) -> UInt64) {
    pieces = layout.regions.map {
      Piece(
        firstPFN: $0.firstPFN.rawValue,
        pageCount: $0.pageCount,
        fileOffset: fileOffset($0)
      )
    }
  }

  /// A part of flat RAM, and where it is.
  package struct Block: Hashable, Sendable {
    /// A multiple of 4096.
    package var byteCount: UInt64
    package var fileIndex = 0
    package var fileOffset: UInt64

    package init(byteCount: UInt64, fileIndex: Int = 0, fileOffset: UInt64) {
      self.byteCount = byteCount
      self.fileIndex = fileIndex
      self.fileOffset = fileOffset
    }
  }

  /// Flat RAM that is cut into `blocks`, one after the other.
  ///
  /// - Precondition: The blocks are as long as a flat file of `layout`.
  package init(_ layout: RAMLayout, blocks: [Block]) {
    pieces = layout.regions.flatMap { region in
      var pieces: [Piece] = []
      var blockStart: UInt64 = 0
      for block in blocks {
        let blockEnd = blockStart + block.byteCount
        let start = max(region.fileOffset, blockStart)
        let end = min(region.endFileOffset, blockEnd)
        if start < end {
          pieces.append(
            Piece(
              firstPFN: PFN(gpa: region.gpa + (start - region.fileOffset)).rawValue,
              pageCount: Page.count(inByteCount: end - start),
              fileIndex: block.fileIndex,
              fileOffset: block.fileOffset + (start - blockStart)
            )
          )
        }
        blockStart = blockEnd
      }
      return pieces
    }
  }

  /// The least size of each file.
  package func endFileOffset(ofFile index: Int = 0) -> UInt64 {
    pieces.reduce(0) { $1.fileIndex == index ? max($0, $1.endFileOffset) : $0 }
  }

  /// The piece that holds `pfn`, if it is RAM.
  ///
  /// - Complexity: O(log *n*) in the number of pieces.
  package func piece(holding pfn: UInt64) -> Piece? {
    let following = pieces.partitioningIndex { $0.firstPFN > pfn }
    guard following > 0, pfn < pieces[following - 1].endPFN else { return nil }
    return pieces[following - 1]
  }

  /// Where the page's first byte is, if it is RAM.
  package func place(of pfn: PFN) -> (fileIndex: Int, fileOffset: UInt64)? {
    piece(holding: pfn.rawValue).map {
      ($0.fileIndex, $0.fileOffset + (pfn.rawValue - $0.firstPFN) << UInt64(Page.shift))
    }
  }
}
