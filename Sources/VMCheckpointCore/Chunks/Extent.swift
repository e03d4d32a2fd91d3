/// A run of consecutive PFNs held by consecutive slots of one chunk.
package struct Extent: Hashable, Sendable {
  package var firstPFN: UInt64
  package var chunkID: Int64
  package var firstSlot: UInt8
  package var pageCount: UInt8
  /// As ``ExtentChecksum`` makes it.
  package var checksum: UInt64

  package init(
    firstPFN: UInt64,
    chunkID: Int64,
    firstSlot: UInt8,
    pageCount: UInt8,
    checksum: UInt64
  ) {
    self.firstPFN = firstPFN
    self.chunkID = chunkID
    self.firstSlot = firstSlot
    self.pageCount = pageCount
    self.checksum = checksum
  }

  package var endPFN: UInt64 { firstPFN + UInt64(pageCount) }
  package var endSlot: Int { Int(firstSlot) + Int(pageCount) }

  /// The slots as bits 0…15.
  package var slotMask: UInt16 {
    UInt16(truncatingIfNeeded: ((1 << Int(pageCount)) - 1) << firstSlot)
  }

  package func location(at index: Int) -> PageLocation {
    PageLocation(chunkID: chunkID, slot: Int(firstSlot) + index)
  }

  /// Whether a page continues the run.
  package func isContinued(by pfn: UInt64, at location: PageLocation) -> Bool {
    pfn == endPFN && location.chunkID == chunkID && location.slot == endSlot
  }
}

extension Extent {
  /// An extent from a row's columns; `nil` when they are impossible.
  package init?(
    firstPFN: Int64,
    pageCount: Int64,
    chunkID: Int64,
    firstSlot: Int64,
    checksum: Int64
  ) {
    let capacity = Int64(ChunkFormat.pageCapacity)
    guard firstPFN >= 0, UInt64(firstPFN) <= PFN.max.rawValue - UInt64(capacity),
      PageLocation.validChunkIDs.contains(chunkID), (1...capacity).contains(pageCount),
      (0..<capacity).contains(firstSlot), firstSlot + pageCount <= capacity
    else { return nil }
    self.init(
      firstPFN: UInt64(firstPFN),
      chunkID: chunkID,
      firstSlot: UInt8(firstSlot),
      pageCount: UInt8(pageCount),
      checksum: UInt64(bitPattern: checksum)
    )
  }

  /// The error for an extent whose numbers are impossible, or which overlaps another.
  package static func damaged(firstPFN: Int64) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "the extent at PFN \(hexString(UInt64(bitPattern: firstPFN))) is damaged",
      hint: "see what is hurt with: vmckpt verify"
    )
  }
}
