import Foundation
package import GRDB

/// A sorted run of the page index: its number and the first prefix of each of its blocks. Only these
/// stay in memory: 8 bytes per 250 pages.
package struct IndexRun: Sendable {
  /// Entries in a block: with its row's header a block fills one database page.
  static let entriesPerBlock = 250

  /// A run's blocks have the ids `id * blocksPerRun ..< (id + 1) * blocksPerRun`.
  static let blocksPerRun: Int64 = 1 << 24

  var id: Int64
  /// How many pages it has.
  package var entryCount: UInt64
  /// Ascending; block *n* begins with `fences[n]`.
  var fences: [UInt64]
  /// Of its filter; its sections' rows have the ids of as many of the run's first blocks.
  var filterLineCount: UInt64

  var firstBlockID: Int64 { id * Self.blocksPerRun }

  func blockID(_ block: Int) -> Int64 { firstBlockID + Int64(block) }

  /// The runs that lookups use, in the order in which they were made.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when a run's numbers are impossible, or there
  ///   are too many.
  package static func fetchActive(_ database: Database) throws -> [IndexRun] {
    try ValueLimit.allowingLargeValues(database) { try fetchRows(database) }
  }

  private static func fetchRows(_ database: Database) throws -> [IndexRun] {
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT id, entry_count, filter_lines,
               CASE WHEN length(fences) <= \(blocksPerRun * 8) THEN fences END AS fences
          FROM page_index_run WHERE state = 'active' ORDER BY id LIMIT \(maximumCount + 1)
        """
    )
    guard rows.count <= maximumCount else { throw tooMany() }
    return try rows.map { row in
      let id: Int64 = try row.value("id")
      let entryCount: Int64 = try row.value("entry_count")
      let filterLineCount: Int64 = try row.value("filter_lines")
      let fences = try row.withUnsafeData(named: "fences") { data -> [UInt64] in
        (data ?? .init()).withUnsafeBytes { bytes in
          (0..<(bytes.count / 8)).map { index in
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
          }
        }
      }
      guard validIDs.contains(id),
        (0...(blocksPerRun * Int64(entriesPerBlock))).contains(entryCount),
        (0...maximumFilterLineCount).contains(filterLineCount),
        Int64(fences.count) == (entryCount + Int64(entriesPerBlock) - 1) / Int64(entriesPerBlock)
      else { throw damaged(id) }
      return IndexRun(
        id: id,
        entryCount: UInt64(entryCount),
        fences: fences,
        filterLineCount: UInt64(filterLineCount)
      )
    }
  }

  /// Deletes the run, its blocks and its filters in transactions of ``blocksPerDeletion``, so that
  /// readers wait briefly and memory stays bounded. A crash leaves the rest, to be deleted likewise.
  ///
  /// - Precondition: The run is not active.
  static func deleteInBatches(
    _ database: Database,
    id: Int64,
    _ cancellation: CancellationFlag
  ) throws {
    try requireValid(id)
    let ids = [id * blocksPerRun, (id + 1) * blocksPerRun]
    while true {
      try cancellation.check()
      var isEmpty = false
      try database.inTransaction(.immediate) {
        let last = try Int64.fetchOne(
          database,
          sql: """
            SELECT max(id) FROM (
              SELECT id FROM page_index_block WHERE id >= ? AND id < ?
               ORDER BY id LIMIT \(blocksPerDeletion))
            """,
          arguments: StatementArguments(ids)
        )
        isEmpty = last == nil
        for table in ["page_index_block", "page_index_filter"] {
          try database.execute(
            sql: "DELETE FROM \(table) WHERE id >= ? AND id <= ?",
            arguments: [ids[0], last ?? ids[1] - 1]
          )
        }
        if isEmpty {
          try database.execute(sql: "DELETE FROM page_index_run WHERE id = ?", arguments: [id])
        }
        return .commit
      }
      if isEmpty { return }
    }
  }

  /// 4 MiB of blocks.
  private static let blocksPerDeletion = 1024

  /// Of the longest run.
  private static let maximumFilterLineCount = Int64(
    IndexFilter.lineCount(forPrefixes: UInt64(blocksPerRun) * UInt64(entriesPerBlock))
  )

  /// What ``blocksPerRun`` leaves room for; no store makes as many.
  private static let validIDs: Range<Int64> = 1..<(1 << 38)

  fileprivate static func requireValid(_ id: Int64) throws(VMCheckpointError) {
    guard validIDs.contains(id) else { throw damaged(id) }
  }

  /// Checks that the next run gets an id that lookups take. SQLite counts on from the highest id ever,
  /// which a store that was tampered with may have put anywhere.
  fileprivate static func requireFreeID(_ database: Database) throws {
    let last = try Int64.fetchOne(
      database,
      sql: """
        SELECT max(id) FROM (
          SELECT max(id) AS id FROM page_index_run UNION ALL
          SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = 'page_index_run')
        """
    )
    guard last ?? 0 < validIDs.upperBound - 1 else {
      throw VMCheckpointError(
        .corrupt,
        "the page index has no number left for another run",
        hint: hint
      )
    }
  }

  /// More runs than a store has: a save adds one and merges four of like size, and a merge that died
  /// leaves as many as it replaced.
  static let maximumCount = 1024

  static func tooMany() -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "the page index has more than \(maximumCount) runs",
      hint: hint
    )
  }

  private static func damaged(_ id: Int64) -> VMCheckpointError {
    VMCheckpointError(.corrupt, "run \(id) of the page index is damaged", hint: hint)
  }

  private static let hint = "no snapshot needs the index; Recovery.md says how to give it up"
}

/// Writes one new run, entry by entry in ascending order.
///
/// The run stays `building`, which lookups do not see, until ``finish()``; what a crash leaves of
/// it, ``PageIndex/removeUnfinishedRuns(_:)`` removes.
package struct IndexRunWriter {
  private let database: Database
  private let insertBlock: HotStatement
  private var filter: IndexFilterWriter
  private var run: IndexRun
  private var block: [UInt8] = []
  private var last: IndexEntry?

  /// Inserts the run's row, in the caller's transaction.
  ///
  /// - Parameter maximumEntryCount: No more entries may be appended.
  package init(_ database: Database, maximumEntryCount: UInt64) throws {
    self.database = database
    try IndexRun.requireFreeID(database)
    try database.execute(
      sql: """
        INSERT INTO page_index_run (state, entry_count, filter_lines, fences)
        VALUES ('building', 0, 0, x'')
        """
    )
    run = IndexRun(
      id: database.lastInsertedRowID,
      entryCount: 0,
      fences: [],
      filterLineCount: 0
    )
    try IndexRun.requireValid(run.id)
    filter = try IndexFilterWriter(
      database,
      firstID: run.firstBlockID,
      prefixCount: maximumEntryCount
    )
    run.filterLineCount = filter.lineCount
    insertBlock = try HotStatement(
      database,
      "INSERT INTO page_index_block (id, entries) VALUES (?, ?)"
    )
    block.reserveCapacity(IndexRun.entriesPerBlock * IndexEntry.byteCount)
  }

  /// Bytes of blocks written so far.
  var writtenByteCount: Int {
    run.fences.count * IndexRun.entriesPerBlock * IndexEntry.byteCount
  }

  /// Appends an entry. One that is not greater than the last is left out: it is a duplicate, or
  /// comes from a damaged block, and a missing entry costs deduplication only.
  package mutating func append(_ entry: IndexEntry) throws {
    if let last, last >= entry { return }
    last = entry
    if block.isEmpty { run.fences.append(entry.prefix) }
    try filter.append(entry.prefix)
    withUnsafeBytes(of: (entry.prefix.bigEndian, entry.location.packed.bigEndian)) {
      block.append(contentsOf: $0)
    }
    run.entryCount += 1
    if block.count == IndexRun.entriesPerBlock * IndexEntry.byteCount { try writeBlock() }
  }

  /// Writes what is left and makes the run active, in the caller's transaction. A run without
  /// entries is removed instead.
  mutating func finish() throws -> IndexRun? {
    if !block.isEmpty { try writeBlock() }
    guard run.entryCount > 0 else {
      try database.execute(sql: "DELETE FROM page_index_run WHERE id = ?", arguments: [run.id])
      return nil
    }
    try filter.finish()
    var fences = [UInt8]()
    fences.reserveCapacity(run.fences.count * 8)
    for fence in run.fences {
      withUnsafeBytes(of: fence.bigEndian) { fences.append(contentsOf: $0) }
    }
    let update = try HotStatement(
      database,
      """
      UPDATE page_index_run SET state = 'active', entry_count = ?, fences = ?, filter_lines = ?
       WHERE id = ?
      """
    )
    update.bind(Int64(run.entryCount), at: 1)
    update.bind(Int64(run.filterLineCount), at: 3)
    update.bind(run.id, at: 4)
    try ValueLimit.allowingLargeValues(database) {
      try fences.withUnsafeBytes { bytes in
        update.bind(bytes, at: 2)
        try update.run()
      }
    }
    return run
  }

  private mutating func writeBlock() throws {
    insertBlock.bind(run.blockID(run.fences.count - 1), at: 1)
    try block.withUnsafeBytes { bytes in
      insertBlock.bind(bytes, at: 2)
      try insertBlock.run()
    }
    block.removeAll(keepingCapacity: true)
  }
}
