import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `page_owners(digest)`: a row for each page of each snapshot that has a content.
  static var pageOwners: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "page_owners",
        ["digest"],
        kind: .table,
        returns: "rows",
        "a row for each page of each snapshot that has this content"
      ),
      columns: ["snapshot_id INTEGER", "snapshot TEXT", "vm TEXT", "pfn INTEGER", "gpa INTEGER"],
      typicalRowCount: 1000
    ) { connection, query in
      try PageOwnersCursor(connection, digest: Self.digest(query.arguments[0]!))
    }
  }

  /// 32 bytes, or 64 hexadecimal digits.
  private static func digest(_ argument: SQLArgument) throws -> [UInt8] {
    let bytes = try argument.withBytes { Array($0) }
    if bytes.count == PageDigest.byteCount { return bytes }
    let digits = bytes.map { UInt8(String(UnicodeScalar($0)), radix: 16) }
    guard digits.count == 2 * PageDigest.byteCount, !digits.contains(nil) else {
      throw SQLError.misuse("\(argument.name) must be 64 hexadecimal digits, or a BLOB of 32 bytes")
    }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0]! << 4 | digits[$0 + 1]! }
  }
}

private final class PageOwnersCursor: TableCursor {
  private let extents: Statement
  private var pfn: Int64 = 0

  /// A store keeps a content once; more copies come only of a damaged index.
  private static let maximumCopyCount = 64

  init(_ connection: Connection, digest: [UInt8]) throws {
    let chunks = try connection.makeStatement(
      "SELECT id, digests FROM main.chunk WHERE instr(digests, ?1) > 0"
    )
    try chunks.bind(blob: digest, at: 1)
    var copies: [(chunkID: Int64, slot: Int)] = []
    while try chunks.step() {
      let chunkID = try chunks.integer(0)
      let digests = try chunks.blob(1)
      for slot in 0..<min(16, digests.count / PageDigest.byteCount) {
        let start = slot * PageDigest.byteCount
        if digests[start..<(start + PageDigest.byteCount)].elementsEqual(digest) {
          copies.append((chunkID, slot))
        }
      }
      guard copies.count <= Self.maximumCopyCount else {
        throw SQLError.corrupt("the store is damaged: it has a page too many times")
      }
    }
    let list = copies.map { "(\($0.chunkID), \($0.slot))" }.joined(separator: ", ")
    // One pass over the extents: there is no index from chunks to them.
    extents = try connection.makeStatement(
      """
      WITH copy (chunk_id, slot) AS (\(list.isEmpty ? "SELECT 0, 0 WHERE 0" : "VALUES \(list)"))
      SELECT s.id, s.name, s.vm, e.first_pfn, e.first_slot, c.slot
        FROM main.snapshot s
        CROSS JOIN main.ram_extent e ON e.snapshot_id = s.id
        CROSS JOIN copy c ON c.chunk_id = e.chunk_id
             AND c.slot >= e.first_slot AND c.slot < e.first_slot + e.page_count
       WHERE s.state = 'complete'
       ORDER BY s.id, e.first_pfn
      """
    )
  }

  func next() throws -> Bool {
    guard try extents.step() else { return false }
    let (first, firstSlot, slot) = (
      try extents.integer(3), try extents.integer(4), try extents.integer(5)
    )
    guard (0...Int64(PFN.max.rawValue) - 16).contains(first), (0..<16).contains(firstSlot),
      (firstSlot..<16).contains(slot)
    else {
      throw SQLError.corrupt("the store is damaged: an extent is impossible")
    }
    pfn = first + slot - firstSlot
    return true
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: .integer(try extents.integer(0))
    case 1: .text(try extents.text(1))
    case 2: .text(try extents.text(2))
    case 3: .integer(pfn)
    default: .integer(Int64(bitPattern: UInt64(pfn) << UInt64(Page.shift)))
    }
  }
}
