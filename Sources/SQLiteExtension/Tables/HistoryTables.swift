import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `page_history(vm, pfn)`: a row for each snapshot of a VM, oldest first.
  static var pageHistory: TableFunction {
    TableFunction(
      help: .named("page_history"),
      columns: [
        "snapshot_id INTEGER", "snapshot TEXT", "completed_at TEXT", "state TEXT",
        "changed INTEGER", "digest TEXT",
      ],
      keyColumn: 0,
      typicalRowCount: 100
    ) { connection, query in
      try PageHistoryCursor(
        connection,
        vm: try query.arguments[0]!.text(),
        pfn: try query.arguments[1]!.pfn(),
        range: query.range
      )
    }
  }

  /// `page_owners(digest)`: a row for each page of each snapshot that has a content.
  static var pageOwners: TableFunction {
    TableFunction(
      help: .named("page_owners"),
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

private final class PageHistoryCursor: TableCursor {
  private let connection: Connection
  private let snapshots: Statement
  private let pfn: PFN
  private var state: PageState = .absent
  private var isFirst = true
  private var hasChanged = false

  private enum PageState: Equatable {
    case absent
    case zero
    case stored(PageDigest)
  }

  init(_ connection: Connection, vm: String, pfn: PFN, range: ClosedRange<Int64>) throws {
    self.connection = connection
    self.pfn = pfn
    snapshots = try connection.makeStatement(
      """
      SELECT \(SnapshotRow.columns), completed_at FROM main.snapshot
       WHERE vm = ?1 AND state = 'complete' AND id BETWEEN ?2 AND ?3 ORDER BY id
      """
    )
    try snapshots.bind(vm, at: 1)
    // A change is one against the snapshot before: all of them are read.
    try snapshots.bind(0, at: 2)
    try snapshots.bind(range.upperBound, at: 3)
  }

  func next() throws -> Bool {
    guard try snapshots.step() else { return false }
    let snapshot = try SnapshotRow(snapshots)
    defer { connection.resetStatements() }
    let previous = state
    state =
      try connection.isRAM(pfn, in: snapshot)
      ? try connection.digest(at: pfn, of: snapshot).map { .stored($0) } ?? .zero : .absent
    hasChanged = !isFirst && state != previous
    isFirst = false
    return true
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: .integer(try snapshots.integer(0))
    case 1: .text(try snapshots.text(1))
    case 2: .text(try snapshots.text(6))
    case 3:
      switch state {
      case .absent: .text("absent")
      case .zero: .text("zero")
      case .stored: .text("stored")
      }
    case 4: .integer(hasChanged ? 1 : 0)
    default:
      if case .stored(let digest) = state { .text(digest.description) } else { .null }
    }
  }
}

extension Connection {
  /// The digest of a page of RAM; `nil` when it is zero.
  fileprivate func digest(at pfn: PFN, of snapshot: SnapshotRow) throws -> PageDigest? {
    let statement = try statement(.extent)
    statement.reset()
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.rawValue), at: 2)
    guard try statement.step() else {
      try requireAllExtents(of: snapshot)
      return nil
    }
    let extent = try ExtentRow(statement)
    let row = try ChunkRow(statement, id: extent.chunkID, at: ExtentRow.chunkColumn)
    try extent.check(row, of: snapshot, seed().extentChecksum)
    return try row.digest(extent.firstSlot + Int(pfn.rawValue - extent.firstPFN))
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
