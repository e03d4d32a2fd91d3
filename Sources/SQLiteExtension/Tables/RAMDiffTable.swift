import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `ram_diff(a, b)`: a row for each page that two snapshots do not share, with the words of
  /// `vmckpt diff`.
  static var ramDiff: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "ram_diff",
        ["a", "b"],
        kind: .table,
        returns: "rows",
        "a row for each page that was added, zeroed or changed from a to b, or is absent in one"
      ),
      columns: ["pfn INTEGER", "gpa INTEGER", "change TEXT", "different_bytes INTEGER"],
      keyColumn: 0,
      typicalRowCount: 1 << 15
    ) { connection, query in
      let a = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      let b = try connection.snapshot(SnapshotSelector(query.arguments[1]!))
      guard let range = query.range.pfns else { return EmptyCursor() }
      return try RAMDiffCursor(connection, a, b, range)
    }
  }
}

final class RAMDiffCursor: TableCursor {
  private var left: StoredPages
  private var right: StoredPages
  /// Decoded chunks of both: what one has, the other often has as well.
  private let chunks: DecodedChunks<HostDatabase>
  private var isLeft = false
  private var isRight = false
  /// The pages that are absent in a or b, and the next of them.
  private let absent: AbsentPages
  private var nextAbsentPFN: UInt64 = 0
  private var isAbsent = false
  private let lastPFN: UInt64
  private(set) var pfn: UInt64 = 0

  /// 4 MiB, as for ``RAMStream``; at least 2, for the pages that are compared.
  private static let chunkCapacity = 64

  init(
    _ connection: Connection,
    _ a: StoredSnapshot,
    _ b: StoredSnapshot,
    _ range: ClosedRange<UInt64>
  ) throws {
    let reader = connection.reader
    let (leftLayout, rightLayout) = (try reader.layout(of: a), try reader.layout(of: b))
    absent = try reader.absentPages(of: a, in: leftLayout)
      .union(reader.absentPages(of: b, in: rightLayout))
    nextAbsentPFN = range.lowerBound
    lastPFN = range.upperBound
    left = try StoredPages(connection, a, leftLayout, range: range)
    right = try StoredPages(connection, b, rightLayout, range: range)
    chunks = try DecodedChunks(connection.reader, capacity: Self.chunkCapacity)
  }

  func next() throws -> Bool {
    while true {
      if isLeft { try left.advance() }
      if isRight { try right.advance() }
      (isLeft, isRight) = (false, false)
      let (leftPFN, rightPFN) = (left.pfn ?? .max, right.pfn ?? .max)
      let absentPFN = absentPFN ?? .max
      pfn = min(leftPFN, rightPFN, absentPFN)
      guard pfn != .max else { return false }
      isLeft = leftPFN == pfn
      isRight = rightPFN == pfn
      isAbsent = absentPFN == pfn
      if isAbsent {
        nextAbsentPFN = pfn + 1
        return true
      }
      guard isLeft, isRight else { return true }
      let (a, b) = (left.location, right.location)
      if a.chunk.id == b.chunk.id && a.slot == b.slot { continue }
      if try a.chunk.digest(a.slot) != b.chunk.digest(b.slot) { return true }
    }
  }

  /// The next absent page in the range.
  private var absentPFN: UInt64? {
    guard let run = absent.run(endingAfter: nextAbsentPFN) else { return nil }
    let pfn = max(nextAbsentPFN, run.lowerBound)
    return pfn <= lastPFN ? pfn : nil
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: .integer(Int64(pfn))
    case 1: .integer(Int64(pfn << UInt64(Page.shift)))
    case 2 where isAbsent: .text("absent")
    case 3 where isAbsent: .null
    case 2: .text(isLeft ? (isRight ? "changed" : "zeroed") : "added")
    default: .integer(Int64(try differentByteCount()))
    }
  }

  /// As against zeros, where a side has no page.
  private func differentByteCount() throws -> Int {
    func page(_ pages: StoredPages) throws -> UnsafeRawBufferPointer {
      let (chunk, slot) = pages.location
      return try chunks.chunk(chunk).pages(from: slot, count: 1)
    }
    let a = isLeft ? try page(left) : zeroPage
    let b = isRight ? try page(right) : zeroPage
    return vmx_count_different(a.baseAddress!, b.baseAddress!, Page.byteCount)
  }
}

private nonisolated(unsafe) let zeroPage: UnsafeRawBufferPointer = {
  let page = UnsafeMutableRawBufferPointer.allocate(byteCount: Page.byteCount, alignment: 64)
  page.initializeMemory(as: UInt8.self, repeating: 0)
  return UnsafeRawBufferPointer(page)
}()
