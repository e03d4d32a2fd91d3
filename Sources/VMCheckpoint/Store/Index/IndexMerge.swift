import GRDB

/// Merges runs of the page index.
///
/// A merged run is written in transactions of ``batchByteCount`` while the runs it is made of
/// still serve lookups; one last transaction puts it in their place. A crash before that leaves a
/// `building` run, which ``PageIndex/removeUnfinishedRuns(_:)`` removes. Only for the holder of
/// the writer's lock.
enum IndexMerge {
  /// How much is written in one transaction, so that readers wait briefly.
  static let batchByteCount = 8 << 20

  /// Merges from the newest run back for as long as the older is at most twice as large as what
  /// was merged so far. So sizes at least double from run to run: there are O(log *n*) runs, and
  /// an entry is rewritten O(log *n*) times.
  static func mergeRunsOfLikeSize(_ database: Database) throws {
    let runs = try IndexRun.fetchActive(database)
    guard let newest = runs.last else { return }
    var merged = [newest]
    var entryCount = newest.entryCount
    for run in runs.dropLast().reversed() {
      guard run.entryCount <= 2 * entryCount else { break }
      merged.append(run)
      entryCount += run.entryCount
    }
    guard merged.count > 1 else { return }
    try replace(merged, in: database) { _ in true }
  }

  /// Rewrites all runs as one, with only the entries that `isLive` wants.
  static func compact(_ database: Database, isLive: (PageLocation) -> Bool) throws {
    try replace(IndexRun.fetchActive(database), in: database, keeping: isLive)
  }

  private static func replace(
    _ runs: [IndexRun],
    in database: Database,
    keeping isLive: (PageLocation) -> Bool
  ) throws {
    guard !runs.isEmpty else { return }
    var cursors = try runs.map { try Cursor(database, run: $0) }
    var transactionStart = 0
    try database.beginTransaction(.immediate)
    do {
      var writer = try IndexRunWriter(database)
      while let next = Self.popSmallest(&cursors) {
        if isLive(next.location) { try writer.append(next) }
        try Self.advanceLoadedBlocks(&cursors)
        if writer.writtenByteCount - transactionStart >= batchByteCount {
          transactionStart = writer.writtenByteCount
          try database.commit()
          try database.beginTransaction(.immediate)
        }
      }
      _ = try writer.finish()
      for run in runs { try IndexRun.delete(database, id: run.id) }
      try database.commit()
    } catch {
      if database.isInsideTransaction { try? database.rollback() }
      throw error
    }
  }

  private static func popSmallest(_ cursors: inout [Cursor]) -> IndexEntry? {
    var smallest: (index: Int, entry: IndexEntry)?
    for index in cursors.indices {
      guard let entry = cursors[index].current else { continue }
      if smallest.map({ entry < $0.entry }) ?? true { smallest = (index, entry) }
    }
    guard let smallest else { return nil }
    cursors[smallest.index].position += 1
    return smallest.entry
  }

  private static func advanceLoadedBlocks(_ cursors: inout [Cursor]) throws {
    for index in cursors.indices { try cursors[index].loadNextBlockIfNeeded() }
  }

  /// Walks a run in order, one block in memory at a time.
  private struct Cursor {
    private let select: HotStatement
    private let run: IndexRun
    private var nextBlock = 0
    private var entries: [IndexEntry] = []
    var position = 0

    init(_ database: Database, run: IndexRun) throws {
      self.run = run
      select = try HotStatement(database, "SELECT entries FROM page_index_block WHERE id = ?")
      try loadNextBlockIfNeeded()
    }

    /// `nil` at the end.
    var current: IndexEntry? { position < entries.count ? entries[position] : nil }

    mutating func loadNextBlockIfNeeded() throws {
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
