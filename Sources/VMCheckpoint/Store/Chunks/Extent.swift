import GRDB

/// A run of consecutive PFNs held by consecutive slots of one chunk.
struct Extent: Hashable, Sendable {
  var firstPFN: UInt64
  var chunkID: Int64
  var firstSlot: UInt8
  var pageCount: UInt8
  /// As ``ExtentChecksum`` makes it.
  var checksum: UInt64

  var endPFN: UInt64 { firstPFN + UInt64(pageCount) }
  var endSlot: Int { Int(firstSlot) + Int(pageCount) }

  /// The slots as bits 0…15.
  var slotMask: UInt16 { UInt16(truncatingIfNeeded: ((1 << Int(pageCount)) - 1) << firstSlot) }

  func location(at index: Int) -> PageLocation {
    PageLocation(chunkID: chunkID, slot: Int(firstSlot) + index)
  }

  /// Whether a page continues the run.
  func isContinued(by pfn: UInt64, at location: PageLocation) -> Bool {
    pfn == endPFN && location.chunkID == chunkID && location.slot == endSlot
  }
}

extension Extent {
  /// An extent from a row's columns; `nil` when they are impossible.
  init?(
    firstPFN: Int64,
    pageCount: Int64,
    chunkID: Int64,
    firstSlot: Int64,
    checksum: Int64
  ) {
    let capacity = Int64(StoreFormat.chunkPageCapacity)
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

  /// An extent from five columns of a row: first PFN, page count, chunk, first slot and checksum.
  init?(_ statement: HotStatement, from column: Int32 = 0) {
    self.init(
      firstPFN: statement.int64(column),
      pageCount: statement.int64(column + 1),
      chunkID: statement.int64(column + 2),
      firstSlot: statement.int64(column + 3),
      checksum: statement.int64(column + 4)
    )
  }

  static func damaged(firstPFN: Int64) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "the extent at PFN \(hexString(UInt64(bitPattern: firstPFN))) is damaged",
      hint: "see what is hurt with: vmckpt verify"
    )
  }
}

/// Reads extents of one snapshot in ascending order of PFN, checking what the file says: a store
/// may be damaged, or hostile.
struct ExtentReader {
  private var statement: HotStatement
  private let lastPFN: UInt64
  private var nextFreePFN: UInt64 = 0

  private static let columns = "first_pfn, page_count, chunk_id, first_slot, checksum"

  /// Prepares the reading of the extents that begin in `firstPFN...lastPFN`.
  init(
    _ database: Database,
    snapshotID: Int64,
    firstPFN: UInt64 = 0,
    lastPFN: UInt64 = PFN.max.rawValue
  ) throws {
    statement = try HotStatement(
      database,
      """
      SELECT \(Self.columns) FROM ram_extent
       WHERE snapshot_id = ? AND first_pfn BETWEEN ? AND ? ORDER BY first_pfn
      """
    )
    self.lastPFN = lastPFN
    statement.bind(snapshotID, at: 1)
    rewind(toPFN: firstPFN, through: lastPFN)
  }

  /// Starts anew with the extents that begin in `firstPFN...lastPFN`.
  mutating func rewind(toPFN firstPFN: UInt64, through lastPFN: UInt64) {
    statement.reset()
    statement.bind(Int64(firstPFN), at: 2)
    statement.bind(Int64(lastPFN), at: 3)
    nextFreePFN = firstPFN
  }

  /// The next extent, or `nil` after the last; the read ends then.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for an extent that overlaps the one
  ///   before it or has impossible numbers.
  mutating func next() throws -> Extent? {
    guard try statement.step() else {
      statement.reset()
      return nil
    }
    let firstPFN = statement.int64(0)
    guard let extent = Extent(statement), extent.firstPFN >= nextFreePFN else {
      statement.reset()
      throw Extent.damaged(firstPFN: firstPFN)
    }
    nextFreePFN = extent.endPFN
    return extent
  }
}
