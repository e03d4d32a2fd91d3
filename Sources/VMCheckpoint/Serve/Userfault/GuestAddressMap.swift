import Algorithms

/// Where each page of a guest's RAM is in a VMM's address space.
///
/// A *unit* is what one fault is about: a page, or a huge one. Units are numbered, in ascending order of address.
package struct GuestAddressMap: Sendable {
  /// A run of pages that are consecutive in both address spaces.
  package struct Piece: Sendable, Hashable {
    package var address: UInt64
    package var firstPFN: UInt64
    package var pageCount: UInt64
    package var firstUnit: Int

    package var endAddress: UInt64 { address + pageCount << UInt64(Page.shift) }
    package var pfns: Range<UInt64> { firstPFN..<(firstPFN + pageCount) }

    package func address(of pfn: UInt64) -> UInt64 {
      address + (pfn - firstPFN) << UInt64(Page.shift)
    }
  }

  /// In ascending order of address.
  package let pieces: [Piece]
  package let unitPageCount: UInt64
  package let unitCount: Int
  /// In ascending order of PFN.
  private let piecesByPFN: [Piece]

  package var unitByteCount: UInt64 { unitPageCount << UInt64(Page.shift) }

  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when the mappings overlap, or are not RAM of the
  ///   snapshot.
  package init(
    _ handshake: UserfaultHandshake,
    _ layout: RAMLayout
  ) throws(VMCheckpointError) {
    unitPageCount = handshake.pageByteCount >> UInt64(Page.shift)
    let mappings = handshake.mappings.sorted { $0.address < $1.address }
    for (lower, upper) in zip(mappings, mappings.dropFirst())
    where lower.address + lower.byteCount > upper.address {
      throw .invalidData("two mappings overlap at \(hexString(upper.address))")
    }
    // What is mapped twice would need a mark for each of its places.
    let byOffset = mappings.sorted { $0.fileOffset < $1.fileOffset }
    for (lower, upper) in zip(byOffset, byOffset.dropFirst())
    where lower.fileOffset + lower.byteCount > upper.fileOffset {
      throw .invalidData("two mappings are of the file offset \(hexString(upper.fileOffset))")
    }
    let regions = layout.regions.sorted { $0.fileOffset < $1.fileOffset }
    var pieces: [Piece] = []
    var unitCount = 0
    for mapping in mappings {
      var offset = mapping.fileOffset
      let end = offset + mapping.byteCount
      while offset < end {
        let next = regions.partitioningIndex { $0.endFileOffset > offset }
        guard next < regions.count, regions[next].fileOffset <= offset else {
          throw .invalidData("the snapshot has no RAM at the file offset \(hexString(offset))")
        }
        let region = regions[next]
        let byteCount = min(end, region.endFileOffset) - offset
        guard byteCount % handshake.pageByteCount == 0 else {
          throw .invalidData("a huge page at \(hexString(mapping.address)) is not in one region")
        }
        pieces.append(
          Piece(
            address: mapping.address + (offset - mapping.fileOffset),
            firstPFN: (region.gpa + (offset - region.fileOffset)) >> UInt64(Page.shift),
            pageCount: byteCount >> UInt64(Page.shift),
            firstUnit: unitCount
          )
        )
        unitCount += Int(byteCount / handshake.pageByteCount)
        offset += byteCount
      }
    }
    self.pieces = pieces
    piecesByPFN = pieces.sorted { $0.firstPFN < $1.firstPFN }
    self.unitCount = unitCount
  }

  /// The piece that holds `address`.
  ///
  /// - Complexity: O(log *n*) in the number of pieces.
  package func piece(holding address: UInt64) -> Piece? {
    let index = pieces.partitioningIndex { $0.endAddress > address }
    return index < pieces.count && pieces[index].address <= address ? pieces[index] : nil
  }

  /// The piece that holds `pfn`, else the next one behind it.
  ///
  /// - Complexity: O(log *n*) in the number of pieces.
  package func piece(holdingOrBehind pfn: UInt64) -> Piece? {
    let index = piecesByPFN.partitioningIndex { $0.pfns.upperBound > pfn }
    return index < piecesByPFN.count ? piecesByPFN[index] : nil
  }

  /// The units of `pfns`, which are all of `piece`, as far as they begin there.
  package func units(of pfns: Range<UInt64>, in piece: Piece) -> Range<Int> {
    let first = Int((pfns.lowerBound - piece.firstPFN) / unitPageCount)
    let end = Int((pfns.upperBound - piece.firstPFN + unitPageCount - 1) / unitPageCount)
    return (piece.firstUnit + first)..<(piece.firstUnit + end)
  }
}
