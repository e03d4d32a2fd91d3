import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `ram_page(snapshot)`: a row for each page of RAM.
  static var ramPage: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "ram_page",
        ["snapshot"],
        kind: .table,
        returns: "rows",
        "a row for each page of RAM: zero, absent, stored or shared, its digest, in how many snapshots it is"
      ),
      columns: [
        "pfn INTEGER", "gpa INTEGER", "state TEXT", "digest TEXT", "chunk_id INTEGER",
        "slot INTEGER", "stored_bytes INTEGER", "snapshots INTEGER",
      ],
      keyColumn: 0,
      typicalRowCount: 1 << 18
    ) { connection, query in
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      let layout = try connection.reader.layout(of: snapshot)
      guard let range = query.range.pfns else { return EmptyCursor() }
      return try RAMPageCursor(connection, snapshot, layout, range)
    }
  }
}

private final class RAMPageCursor: TableCursor {
  private let connection: Connection
  private let layout: RAMLayout
  private let range: ClosedRange<UInt64>
  private let snapshot: StoredSnapshot
  private var stored: StoredPages
  private let absent: AbsentPages
  private var regionIndex = 0
  private var nextPFN: UInt64
  private var pfn: UInt64 = 0
  private var sharing: SharingCounts?

  init(
    _ connection: Connection,
    _ snapshot: StoredSnapshot,
    _ layout: RAMLayout,
    _ range: ClosedRange<UInt64>
  ) throws {
    self.connection = connection
    self.layout = layout
    self.range = range
    self.snapshot = snapshot
    stored = try StoredPages(connection, snapshot, layout, range: range)
    absent = try connection.reader.absentPages(of: snapshot, in: layout)
    nextPFN = range.lowerBound
  }

  func next() throws -> Bool {
    while regionIndex < layout.regions.count {
      let region = layout.regions[regionIndex]
      let first = max(nextPFN, region.firstPFN.rawValue)
      guard first < region.firstPFN.rawValue + region.pageCount else {
        regionIndex += 1
        continue
      }
      guard first <= range.upperBound else { break }
      while let page = stored.pfn, page < first { try stored.advance() }
      pfn = first
      nextPFN = first + 1
      return true
    }
    try stored.finish()
    return false
  }

  func column(_ index: Int) throws -> SQLValue {
    let isStored = stored.pfn == pfn
    switch index {
    case 0: return .integer(Int64(pfn))
    case 1: return .integer(Int64(pfn << UInt64(Page.shift)))
    case 2 where !isStored:
      return .text(absent.contains(PFN(unchecked: pfn)) ? "absent" : "zero")
    default: break
    }
    guard isStored else { return .null }
    let (chunk, slot) = stored.location
    switch index {
    case 2: return .text(try snapshotCount(chunk, slot) > 1 ? "shared" : "stored")
    case 3: return .text(try chunk.digest(slot).description)
    case 4: return .integer(chunk.id)
    case 5: return .integer(Int64(slot))
    case 6: return .integer(Int64(Int(chunk.statedByteCount) / chunk.pageCount))
    default: return .integer(try snapshotCount(chunk, slot))
    }
  }

  /// In how many snapshots the content of the row's page is. Only who asks pays for it.
  private func snapshotCount(_ chunk: ChunkRow, _ slot: Int) throws -> Int64 {
    if sharing?.range.contains(pfn) != true {
      sharing = try connection.sharing.counts(
        connection,
        snapshot,
        layout,
        range: pfn...min(range.upperBound, pfn + SharingCounts.maximumPageCount - 1)
      )
    }
    return sharing!.count(chunkID: chunk.id, slot: slot)
  }
}

/// The counts that were asked for last. In a join each page may be a question of its own.
final class SharingCache {
  private var counts: SharingCounts?
  private var snapshot = ""
  private var version: Int64 = 0

  func release() { counts = nil }

  /// Counts of pages, of which those in `range` are some.
  ///
  /// One question is answered with no more than it asks for. The next one about the same snapshot shows that there
  /// will be many, and so is answered with all that memory allows.
  func counts(
    _ connection: Connection,
    _ snapshot: StoredSnapshot,
    _ layout: RAMLayout,
    range: ClosedRange<UInt64>
  ) throws -> SharingCounts {
    let version = try connection.reader.dataVersion()
    var range = range
    if counts != nil, self.snapshot == snapshot.uuid, self.version == version {
      if let counts, counts.range.contains(range.lowerBound),
        counts.range.upperBound >= range.upperBound
      {
        return counts
      }
      let size = SharingCounts.maximumPageCount
      let first = range.lowerBound / size * size
      range = first...(first + size - 1)
    }
    let counts = try SharingCounts(connection, snapshot, layout, range: range)
    self.counts = counts
    self.snapshot = snapshot.uuid
    self.version = version
    return counts
  }
}

/// In how many snapshots the pages of one snapshot's RAM occur: one pass over all extents of the
/// store, which has no index from chunks to snapshots.
struct SharingCounts {
  /// Bounds the memory: 20 bytes for each page, and as much again while they are gathered.
  static let maximumPageCount: UInt64 = 1 << 19

  let range: ClosedRange<UInt64>
  /// Chunk << 4 | slot, ascending.
  private var keys: [UInt64] = []
  private var counts: [UInt32] = []

  init(
    _ connection: Connection,
    _ snapshot: StoredSnapshot,
    _ layout: RAMLayout,
    range: ClosedRange<UInt64>
  ) throws {
    self.range = range
    var pages = try StoredPages(connection, snapshot, layout, range: range)
    while pages.pfn != nil {
      let (chunk, slot) = pages.location
      keys.append(UInt64(bitPattern: chunk.id) << 4 | UInt64(slot))
      try pages.advance()
    }
    keys.sort()
    var distinct = 0
    for (index, key) in keys.enumerated() where index == 0 || key != keys[distinct - 1] {
      keys[distinct] = key
      distinct += 1
    }
    keys.removeLast(keys.count - distinct)
    counts = Array(repeating: 0, count: keys.count)
    var lastSnapshots = [Int64](repeating: 0, count: keys.count)
    let statement = try connection.makeStatement(
      """
      SELECT e.snapshot_id, e.chunk_id, e.first_slot, e.page_count
        FROM main.ram_extent e JOIN main.snapshot s ON s.id = e.snapshot_id
       WHERE s.state = 'complete'
      """
    )
    while try statement.step() {
      let snapshotID = try statement.integer(0)
      let chunkID = try statement.integer(1)
      let (firstSlot, pageCount) = (try statement.integer(2), try statement.integer(3))
      guard (0..<16).contains(firstSlot), (1...16).contains(pageCount) else {
        throw SQLError.corrupt("the store is damaged: an extent is impossible")
      }
      let first = UInt64(bitPattern: chunkID) << 4 | UInt64(firstSlot)
      var index = lowerBound(first)
      while index < keys.count, keys[index] - first < UInt64(pageCount) {
        if counts[index] == 0 || lastSnapshots[index] != snapshotID {
          lastSnapshots[index] = snapshotID
          counts[index] += 1
        }
        index += 1
      }
    }
  }

  func count(chunkID: Int64, slot: Int) -> Int64 {
    let key = UInt64(bitPattern: chunkID) << 4 | UInt64(slot)
    let index = lowerBound(key)
    return index < keys.count && keys[index] == key ? Int64(counts[index]) : 0
  }

  private func lowerBound(_ key: UInt64) -> Int {
    var (low, high) = (0, keys.count)
    while low < high {
      let middle = (low + high) / 2
      if keys[middle] < key { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
