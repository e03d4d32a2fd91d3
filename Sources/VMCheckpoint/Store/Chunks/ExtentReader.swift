import GRDB

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

extension Extent {
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
}
