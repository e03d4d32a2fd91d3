package import GRDB

/// Merges runs of the page index.
///
/// A merged run is written in transactions of ``batchByteCount`` while the runs it is made of
/// still serve lookups. One more transaction puts it in their place; then they are removed. A
/// crash leaves `building` runs, the new or the old, which ``PageIndex/removeUnfinishedRuns(_:)``
/// removes. Only for the holder of the writer's lock.
package enum IndexMerge {
  /// How much is written in one transaction, so that readers wait briefly.
  static let batchByteCount = 8 << 20

  /// How many runs of like size become one.
  ///
  /// Four: an entry is rewritten once each time its run becomes four times as large. With two it
  /// would be twice as often, and rewriting the index is what a save writes beside its pages. There
  /// are more runs then; but most lookups end at their filters.
  package static let fanIn = 4

  /// Merges runs of like size where there are ``fanIn`` of them, and the smaller ones with them. So
  /// there are O(log *n*) runs, and an entry is rewritten O(log *n*) times.
  ///
  /// - Throws: ``VMCheckpointError`` when cancelled, or `DatabaseError`; lookups are right as before.
  package static func mergeRunsOfLikeSize(
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws {
    let runs = try IndexRun.fetchActive(database)
    let byLevel = Dictionary(grouping: runs) { level(entryCount: $0.entryCount) }
    var merged: [IndexRun] = []
    var waiting: [IndexRun] = []
    for level in byLevel.keys.sorted() {
      waiting += byLevel[level]!
      // What is merged so far may have grown up to this level.
      let entryCount = merged.reduce(0) { $0 + $1.entryCount }
      let grown = !merged.isEmpty && self.level(entryCount: entryCount) == level ? 1 : 0
      guard byLevel[level]!.count + grown >= fanIn else { continue }
      merged += waiting
      waiting = []
    }
    guard merged.count > 1 else { return }
    try replace(merged, in: database, cancellation) { _ in true }
    // The new run holds all that the replaced runs held. So their pages in the file need not be
    // overwritten, as pages with what is deleted for good must be.
    try database.execute(sql: "PRAGMA secure_delete = FAST")
    defer { try? database.execute(sql: "PRAGMA secure_delete = ON") }
    try PageIndex.removeUnfinishedRuns(database, cancellation)
  }

  /// Runs of one level have like sizes: up to one block, up to 4, 16, 64 and so on.
  package static func level(entryCount: UInt64) -> Int {
    let block = UInt64(IndexRun.entriesPerBlock)
    let blockCount = max(1, (entryCount + block - 1) / block)
    return (UInt64.bitWidth - (blockCount - 1).leadingZeroBitCount + 1) / 2
  }

  /// Rewrites all runs as one, with only the entries that `isLive` wants.
  package static func compact(
    _ database: Database,
    _ cancellation: CancellationFlag,
    isLive: (PageLocation) -> Bool
  ) throws {
    try replace(IndexRun.fetchActive(database), in: database, cancellation, keeping: isLive)
    try PageIndex.removeUnfinishedRuns(database, cancellation)
  }

  /// Writes one run in place of `runs`, which become unfinished ones: invisible, and to be removed.
  private static func replace(
    _ runs: [IndexRun],
    in database: Database,
    _ cancellation: CancellationFlag,
    keeping isLive: (PageLocation) -> Bool
  ) throws {
    guard !runs.isEmpty else { return }
    var cursors = try runs.map { try Cursor(database, run: $0) }
    var transactionStart = 0
    try database.beginTransaction(.immediate)
    do {
      var writer = try IndexRunWriter(
        database,
        maximumEntryCount: runs.reduce(0) { $0 + $1.entryCount }
      )
      while let next = try popSmallest(&cursors) {
        if isLive(next.location) { try writer.append(next) }
        if writer.writtenByteCount - transactionStart >= batchByteCount {
          transactionStart = writer.writtenByteCount
          try cancellation.check()
          try database.commit()
          try database.beginTransaction(.immediate)
        }
      }
      _ = try writer.finish()
      for run in runs {
        try database.execute(
          sql: "UPDATE page_index_run SET state = 'building' WHERE id = ?",
          arguments: [run.id]
        )
      }
      try database.commit()
    } catch {
      if database.isInsideTransaction { try? database.rollback() }
      throw error
    }
  }

  private static func popSmallest(_ cursors: inout [Cursor]) throws -> IndexEntry? {
    var smallest: (index: Int, entry: IndexEntry)?
    for index in cursors.indices {
      guard let entry = cursors[index].current else { continue }
      if smallest.map({ entry < $0.entry }) ?? true { smallest = (index, entry) }
    }
    guard let smallest else { return nil }
    try cursors[smallest.index].advance()
    return smallest.entry
  }

  /// Walks a run in order, one block in memory at a time.
  private struct Cursor {
    private let select: HotStatement
    private let run: IndexRun
    private var nextBlock = 0
    private var entries: [IndexEntry] = []
    private var position = 0

    init(_ database: Database, run: IndexRun) throws {
      self.run = run
      select = try HotStatement(database, "SELECT entries FROM page_index_block WHERE id = ?")
      try loadNextBlockIfNeeded()
    }

    /// `nil` at the end.
    var current: IndexEntry? { position < entries.count ? entries[position] : nil }

    mutating func advance() throws {
      position += 1
      if position == entries.count { try loadNextBlockIfNeeded() }
    }

    private mutating func loadNextBlockIfNeeded() throws {
      while position == entries.count, nextBlock < run.fences.count {
        entries.removeAll(keepingCapacity: true)
        position = 0
        select.bind(run.blockID(nextBlock), at: 1)
        nextBlock += 1
        defer { select.reset() }
        // A block that is missing or out of order loses deduplication, not data: leave it out.
        guard try select.step() else { continue }
        select.withBlob(0) { blob in
          guard let base = blob.baseAddress else { return }
          for index in 0..<(blob.count / IndexEntry.byteCount) {
            entries.append(IndexEntry(loadingFrom: base + index * IndexEntry.byteCount))
          }
        }
        entries.sort()
      }
    }
  }
}
