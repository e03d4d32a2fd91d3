import CSQLiteExtension
import VMCheckpointCore

/// A snapshot's extents in ascending order of PFN, each checked against its neighbour, the RAM and its
/// chunk.
///
/// Its statement stays open, and so every row is of the same moment.
final class ExtentScan {
  private var extents: ExtentReader<Statement>
  private let layout: RAMLayout
  private let snapshot: StoredSnapshot
  private let check: ExtentCheck
  /// What the extents add up to; `nil` when only some are read.
  private var tally: ExtentTally?

  /// - Parameter isWhole: Whether these are all extents of the snapshot.
  init(
    _ extents: ExtentReader<Statement>,
    _ snapshot: StoredSnapshot,
    _ layout: RAMLayout,
    _ check: ExtentCheck,
    isWhole: Bool
  ) {
    self.extents = extents
    self.layout = layout
    self.snapshot = snapshot
    self.check = check
    tally = isWhole ? ExtentTally() : nil
  }

  /// - Throws: `VMCheckpointError` when an extent is impossible, overlaps the one before, or lies outside
  ///   of RAM, or, at the end of a whole snapshot, when one is lost; ``SQLError`` with `SQLITE_INTERRUPT`
  ///   when the host interrupts.
  func next() throws -> Extent? {
    guard let extent = try extents.next() else {
      try tally?.requireComplete(snapshot)
      tally = nil
      return nil
    }
    guard
      layout.isRAM(
        from: PFN(unchecked: extent.firstPFN),
        through: PFN(unchecked: extent.endPFN - 1)
      )
    else {
      throw SQLError.corrupt("the extent at PFN \(hexString(extent.firstPFN)) is not RAM")
    }
    tally?.add(extent)
    return extent
  }

  /// The chunk of the extent that ``next()`` returned last, its checksum compared.
  func chunk(of extent: Extent) throws -> ChunkRow {
    let chunk = try extents.chunk(of: extent)
    try extent.check(chunk, of: snapshot, with: check)
    return chunk
  }
}

/// A snapshot's stored pages one by one.
struct StoredPages {
  private let scan: ExtentScan
  private let range: ClosedRange<UInt64>
  private var extent: Extent?
  private var chunk: ChunkRow?
  private var index = 0

  init(
    _ connection: Connection,
    _ snapshot: StoredSnapshot,
    _ layout: RAMLayout,
    range: ClosedRange<UInt64>
  ) throws {
    scan = try connection.extents(of: snapshot, layout, range: range)
    self.range = range
    try nextExtent()
    while let pfn, pfn < range.lowerBound { try advance() }
  }

  /// `nil` after the last page.
  var pfn: UInt64? { extent.map { $0.firstPFN + UInt64(index) } }

  /// Where the page is stored. The chunk's digests are valid until ``advance()``.
  var location: (chunk: ChunkRow, slot: Int) { (chunk!, Int(extent!.firstSlot) + index) }

  /// Reads what is left, which finds extents that are lost or lie behind the RAM.
  mutating func finish() throws {
    while pfn != nil { try advance() }
  }

  mutating func advance() throws {
    index += 1
    if index == Int(extent!.pageCount) { try nextExtent() }
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
