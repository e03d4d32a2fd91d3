import CSQLiteExtension
import VMCheckpointCore

/// A snapshot's extents in ascending order of PFN, each checked against its neighbour and the RAM.
///
/// Its statement stays open, and so every row is of the same moment.
final class ExtentScan {
  private let statement: Statement
  private let layout: RAMLayout
  private let snapshot: SnapshotRow
  private let checksums: ExtentChecksum
  /// What the extents add up to; `nil` when only some are read.
  private var sum: (pageCount: Int64, checksum: UInt64)?
  private var end: UInt64 = 0

  /// - Parameter range: Extents that reach into it are found.
  init(
    _ connection: Connection,
    _ snapshot: SnapshotRow,
    _ layout: RAMLayout,
    range: ClosedRange<UInt64>
  ) throws {
    self.layout = layout
    self.snapshot = snapshot
    checksums = try connection.seed().extentChecksum
    if range.lowerBound == 0, range.upperBound >= layout.endPFN { sum = (0, 0) }
    statement = try connection.makeStatement(
      """
      SELECT \(ExtentRow.columns)
       WHERE e.snapshot_id = ?1 AND e.first_pfn BETWEEN ?2 AND ?3
       ORDER BY e.first_pfn
      """
    )
    let reach = UInt64(15)
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(clamping: range.lowerBound - min(range.lowerBound, reach)), at: 2)
    try statement.bind(Int64(clamping: range.upperBound), at: 3)
  }

  /// - Throws: ``SQLError`` when an extent is impossible, overlaps the one before, or lies outside
  ///   of RAM, or, at the end of a whole snapshot, when one is lost; with `SQLITE_INTERRUPT` when the
  ///   host interrupts.
  func next() throws -> ExtentRow? {
    guard try statement.step() else {
      try checkSum()
      return nil
    }
    let extent = try ExtentRow(statement)
    guard extent.firstPFN >= end,
      layout.isRAM(
        from: PFN(unchecked: extent.firstPFN),
        through: PFN(unchecked: extent.endPFN - 1)
      )
    else {
      throw SQLError.corrupt(
        "the extent at PFN \(hexString(extent.firstPFN)) overlaps another, or is not RAM"
      )
    }
    end = extent.endPFN
    sum?.pageCount += Int64(extent.pageCount)
    sum?.checksum &+= extent.checksum
    return extent
  }

  /// The chunk of the extent that ``next()`` returned last, its checksum compared.
  func chunk(of extent: ExtentRow) throws -> ChunkRow {
    let chunk = try ChunkRow(statement, id: extent.chunkID, at: ExtentRow.chunkColumn)
    try extent.check(chunk, of: snapshot, checksums)
    return chunk
  }

  private func checkSum() throws {
    guard let sum else { return }
    guard sum.pageCount == snapshot.storedPageCount, sum.checksum == snapshot.ramChecksum else {
      throw SQLError.lostExtent(snapshot)
    }
    self.sum = nil
  }
}

/// A snapshot's stored pages one by one.
struct StoredPages {
  private let scan: ExtentScan
  private let range: ClosedRange<UInt64>
  private var extent: ExtentRow?
  private var chunk: ChunkRow?
  private var index = 0

  init(
    _ connection: Connection,
    _ snapshot: SnapshotRow,
    _ layout: RAMLayout,
    range: ClosedRange<UInt64>
  ) throws {
    scan = try ExtentScan(connection, snapshot, layout, range: range)
    self.range = range
    try nextExtent()
    while let pfn, pfn < range.lowerBound { try advance() }
  }

  /// `nil` after the last page.
  var pfn: UInt64? { extent.map { $0.firstPFN + UInt64(index) } }

  /// Where the page is stored. The chunk's digests are valid until ``advance()``.
  var location: (chunk: ChunkRow, slot: Int) { (chunk!, extent!.firstSlot + index) }

  /// Reads what is left, which finds extents that are lost or lie behind the RAM.
  mutating func finish() throws {
    while pfn != nil { try advance() }
  }

  mutating func advance() throws {
    index += 1
    if index == extent!.pageCount { try nextExtent() }
    if let pfn, pfn > range.upperBound { extent = nil }
  }

  private mutating func nextExtent() throws {
    index = 0
    extent = try scan.next()
    chunk = try extent.map { try scan.chunk(of: $0) }
    if let pfn, pfn > range.upperBound { extent = nil }
  }
}

extension ClosedRange<Int64> {
  /// The PFNs among these numbers; `nil` when there are none.
  var pfns: ClosedRange<UInt64>? {
    let valid: ClosedRange<Int64> = 0...Int64(PFN.max.rawValue)
    guard overlaps(valid) else { return nil }
    let clamped = clamped(to: valid)
    return UInt64(clamped.lowerBound)...UInt64(clamped.upperBound)
  }
}

/// A table without rows.
final class EmptyCursor: TableCursor {
  func next() -> Bool { false }
  func column(_ index: Int) -> SQLValue { .null }
}
