import GRDB

/// Points extents and overlays to where pages have moved, snapshot by snapshot in the order of their
/// rows. Old and new places hold the same pages, so that every state in between is sound.
///
/// Only for the holder of the writer's lock and of the chunks' exclusive lock.
struct ExtentMover {
  /// Extents read in one transaction; one that changes them all writes 1 MiB.
  private static let batchCount = 32 << 10

  private struct Row: Equatable {
    var snapshotID: Int64
    var extent: Extent
  }

  private let database: Database
  private let control: OperationControl
  private let select: HotStatement
  private let insert: HotStatement
  private let delete: HotStatement
  private let digests: DigestReader
  private let checksums: ExtentChecksum
  private var keys: SnapshotKeys
  private(set) var moves: PageMoves

  init(_ database: Database, moves: PageMoves, control: OperationControl) throws {
    self.database = database
    self.moves = moves
    self.control = control
    digests = try DigestReader(database)
    checksums = try StoreSeed(database).extentChecksum
    keys = SnapshotKeys(database, checksums)
    select = try HotStatement(
      database,
      """
      SELECT snapshot_id, first_pfn, page_count, chunk_id, first_slot, checksum FROM ram_extent
       WHERE (snapshot_id, first_pfn) > (?, ?) ORDER BY snapshot_id, first_pfn LIMIT ?
      """
    )
    insert = try HotStatement(
      database,
      """
      INSERT OR REPLACE INTO ram_extent
        (snapshot_id, first_pfn, page_count, chunk_id, first_slot, checksum)
      VALUES (?, ?, ?, ?, ?, ?)
      """
    )
    delete = try HotStatement(
      database,
      "DELETE FROM ram_extent WHERE snapshot_id = ? AND first_pfn = ?"
    )
  }

  mutating func run() throws {
    try moveOverlays()
    var last: (snapshotID: Int64, firstPFN: Int64)? = (.min, .min)
    while let position = last {
      try control.cancellation.check()
      try database.inTransaction(.immediate) {
        last = try moveBatch(after: position)
        return .commit
      }
    }
  }

  /// - Returns: The last row that was read; `nil` when there are none left.
  private mutating func moveBatch(
    after position: (snapshotID: Int64, firstPFN: Int64)
  ) throws -> (snapshotID: Int64, firstPFN: Int64)? {
    var last: (Int64, Int64)?
    var old: [Row] = []
    var new: [Row] = []
    select.bind(position.snapshotID, at: 1)
    select.bind(position.firstPFN, at: 2)
    select.bind(Int64(Self.batchCount), at: 3)
    defer { select.reset() }
    while try select.step() {
      last = (select.int64(0), select.int64(1))
      guard let extent = try? Extent(select, from: 1) else {
        // What it names is not known, and so the chunk stays.
        moves.keep(select.int64(3))
        continue
      }
      let row = Row(snapshotID: select.int64(0), extent: extent)
      old.append(row)
      if moves.contains(extent.chunkID) {
        try append(row, to: &new)
      } else {
        new.append(row)
      }
    }
    select.reset()
    // In a damaged store a key may not be an integer; the search would find it again and again.
    if let last, last <= position { throw Extent.damaged(firstPFN: last.1) }
    try replace(old, with: new)
    return last
  }

  /// Appends the pages of `row` at their new places. One that was written for other pages than it names
  /// stays as it is, and so does its chunk: with a new checksum its damage would be hidden.
  private mutating func append(_ row: Row, to rows: inout [Row]) throws {
    let extent = row.extent
    let key = try keys.key(row.snapshotID)
    let terms = try digests.all(extent.chunkID).dropFirst(Int(extent.firstSlot))
      .prefix(Int(extent.pageCount)).enumerated().map { index, digest in
        checksums.term(
          key,
          pfn: extent.firstPFN + UInt64(index),
          digest: digest
        )
      }
    guard terms.count == Int(extent.pageCount), terms.reduce(0, &+) == extent.checksum else {
      moves.keep(extent.chunkID)
      rows.append(row)
      return
    }
    for (index, term) in terms.enumerated() { appendPage(index, term, of: row, to: &rows) }
  }

  /// Appends one page of `row`, at its new place if it has one, to the last extent if it continues it.
  private mutating func appendPage(
    _ index: Int,
    _ term: UInt64,
    of row: Row,
    to rows: inout [Row]
  ) {
    let old = row.extent.location(at: index)
    let location = moves.target(of: old) ?? old
    let pfn = row.extent.firstPFN + UInt64(index)
    if let last = rows.indices.last, rows[last].snapshotID == row.snapshotID,
      rows[last].extent.isContinued(by: pfn, at: location)
    {
      rows[last].extent.pageCount += 1
      rows[last].extent.checksum &+= term
      return
    }
    let extent = Extent(
      firstPFN: pfn,
      chunkID: location.chunkID,
      firstSlot: UInt8(location.slot),
      pageCount: 1,
      checksum: term
    )
    rows.append(Row(snapshotID: row.snapshotID, extent: extent))
  }

  /// Writes what is different. Both lists are in the order of the table's key.
  private func replace(_ old: [Row], with new: [Row]) throws {
    var oldIndex = 0
    for row in new {
      while oldIndex < old.count, isBefore(old[oldIndex], row) {
        try remove(old[oldIndex])
        oldIndex += 1
      }
      if oldIndex < old.count, !isBefore(row, old[oldIndex]) {
        oldIndex += 1
        if old[oldIndex - 1] == row { continue }
      }
      insert.bind(row.snapshotID, at: 1)
      insert.bind(Int64(row.extent.firstPFN), at: 2)
      insert.bind(Int64(row.extent.pageCount), at: 3)
      insert.bind(row.extent.chunkID, at: 4)
      insert.bind(Int64(row.extent.firstSlot), at: 5)
      insert.bind(Int64(bitPattern: row.extent.checksum), at: 6)
      try insert.run()
    }
    for row in old[oldIndex...] { try remove(row) }
  }

  private func isBefore(_ first: Row, _ second: Row) -> Bool {
    (first.snapshotID, first.extent.firstPFN) < (second.snapshotID, second.extent.firstPFN)
  }

  private func remove(_ row: Row) throws {
    delete.bind(row.snapshotID, at: 1)
    delete.bind(Int64(row.extent.firstPFN), at: 2)
    try delete.run()
  }

  private mutating func moveOverlays() throws {
    try database.inTransaction(.immediate) {
      try OverlayContentsMover.run(database) { chunkID, slot in
        guard moves.contains(chunkID), (0..<16).contains(slot) else { return nil }
        return moves.target(of: PageLocation(chunkID: chunkID, slot: Int(slot)))
      }
      return .commit
    }
  }
}
