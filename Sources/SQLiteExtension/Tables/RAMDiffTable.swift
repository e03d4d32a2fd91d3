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
        "a row for each page that was added, zeroed or changed from a to b"
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

private final class RAMDiffCursor: TableCursor {
  private var left: StoredPages
  private var right: StoredPages
  /// Decoded chunks of both: what one has, the other often has as well.
  private let chunks: DecodedChunks<HostDatabase>
  private var isLeft = false
  private var isRight = false
  private var pfn: UInt64 = 0

  /// 4 MiB, as for ``RAMStream``; at least 2, for the pages that are compared.
  private static let chunkCapacity = 64

  init(
    _ connection: Connection,
    _ a: StoredSnapshot,
    _ b: StoredSnapshot,
    _ range: ClosedRange<UInt64>
  ) throws {
    left = try StoredPages(connection, a, connection.reader.layout(of: a), range: range)
    right = try StoredPages(connection, b, connection.reader.layout(of: b), range: range)
    chunks = try DecodedChunks(connection.reader, capacity: Self.chunkCapacity)
  }

  func next() throws -> Bool {
    while true {
      if isLeft { try left.advance() }
      if isRight { try right.advance() }
      (isLeft, isRight) = (false, false)
      let (leftPFN, rightPFN) = (left.pfn ?? .max, right.pfn ?? .max)
      pfn = min(leftPFN, rightPFN)
      guard pfn != .max else { return false }
      isLeft = leftPFN == pfn
      isRight = rightPFN == pfn
      guard isLeft, isRight else { return true }
      let (a, b) = (left.location, right.location)
      if a.chunk.id == b.chunk.id && a.slot == b.slot { continue }
      if try a.chunk.digest(a.slot) != b.chunk.digest(b.slot) { return true }
    }
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: .integer(Int64(pfn))
    case 1: .integer(Int64(pfn << UInt64(Page.shift)))
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
