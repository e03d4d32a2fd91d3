import Algorithms

/// Where RAM stands in a file: piece by piece, each in one run of pages.
///
/// A flat RAM file has each region at its own offset. A file that holds more than RAM, such as an
/// archive, may have any part of RAM anywhere, even at an offset that is no multiple of 4096.
struct RAMPlacement: Hashable, Sendable {
  /// A run of pages that lies in one region and in one run of the file.
  struct Piece: Hashable, Sendable {
    var firstPFN: UInt64
    var pageCount: UInt64
    /// Where the first page begins in the file.
    var fileOffset: UInt64

    var byteCount: UInt64 { pageCount << UInt64(Page.shift) }
    var endPFN: UInt64 { firstPFN + pageCount }
    var endFileOffset: UInt64 { fileOffset + byteCount }
  }

  /// In ascending order of PFN, without overlap.
  let pieces: [Piece]

  /// A flat RAM file.
  init(flat layout: RAMLayout) {
    pieces = layout.regions.map {
      Piece(firstPFN: $0.firstPFN.rawValue, pageCount: $0.pageCount, fileOffset: $0.fileOffset)
    }
  }

  /// Each region in one piece, wherever `fileOffset` says.
  init(_ layout: RAMLayout, fileOffset: (MemoryRegion) -> UInt64) {
    pieces = layout.regions.map {
      Piece(
        firstPFN: $0.firstPFN.rawValue,
        pageCount: $0.pageCount,
        fileOffset: fileOffset($0)
      )
    }
  }

  /// The size of a file that ends with the last piece.
  var endFileOffset: UInt64 { pieces.reduce(0) { max($0, $1.endFileOffset) } }

  /// The piece that holds `pfn`, if it is RAM.
  ///
  /// - Complexity: O(log *n*) in the number of pieces.
  func piece(holding pfn: UInt64) -> Piece? {
    let following = pieces.partitioningIndex { $0.firstPFN > pfn }
    guard following > 0, pfn < pieces[following - 1].endPFN else { return nil }
    return pieces[following - 1]
  }

  /// The offset of the page's first byte in the file, if it is RAM.
  func fileOffset(of pfn: PFN) -> UInt64? {
    piece(holding: pfn.rawValue).map {
      $0.fileOffset + (pfn.rawValue - $0.firstPFN) << UInt64(Page.shift)
    }
  }
}
