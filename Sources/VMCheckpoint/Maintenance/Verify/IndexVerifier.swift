import GRDB

/// Checks the page index: that every run has the blocks that its row states, filled and in order.
///
/// No page depends on it, since a lookup compares digests. But saves store a page again whose entry is
/// lost, and nothing else would report that. Filters are not checked, nor where entries say that pages
/// are: entries of chunks that are gone are there until a gc.
enum IndexVerifier {
  /// What is wrong, by subject: the first of each run.
  ///
  /// - Complexity: Reads all blocks, 16 bytes for each page of the store, one at a time.
  static func problems(_ database: Database) throws -> [(subject: String, message: String)] {
    let select = try HotStatement(
      database,
      """
      SELECT id, CASE WHEN length(entries) <= \(IndexRun.entriesPerBlock * IndexEntry.byteCount)
                      THEN entries END
        FROM page_index_block WHERE id >= ? AND id < ? ORDER BY id
      """
    )
    var problems: [(subject: String, message: String)] = []
    for run in try IndexRun.fetchActive(database) {
      guard let message = try problem(of: run, select) else { continue }
      // A save may have merged the run with others meanwhile, and removed it.
      guard try IndexRun.fetchActive(database).contains(where: { $0.id == run.id }) else {
        continue
      }
      problems.append(("page index", "run \(run.id): \(message)"))
    }
    return problems
  }

  private static func problem(of run: IndexRun, _ select: HotStatement) throws -> String? {
    select.bind(run.firstBlockID, at: 1)
    select.bind(run.firstBlockID + IndexRun.blocksPerRun, at: 2)
    defer { select.reset() }
    var block = 0
    var last: IndexEntry?
    while try select.step() {
      guard block < run.fences.count else { return "it has more blocks than it should" }
      guard select.int64(0) == run.blockID(block) else { break }
      let isSound = select.withBlob(1) { entries in
        isBlock(block, of: run, entries, behind: &last)
      }
      guard isSound else { return "its block \(block) is damaged" }
      block += 1
    }
    return block == run.fences.count ? nil : "its block \(block) is missing"
  }

  /// Whether these are the block's entries, as many as it must have and in ascending order.
  ///
  /// - Parameter last: The last entry of the block before.
  private static func isBlock(
    _ block: Int,
    of run: IndexRun,
    _ bytes: UnsafeRawBufferPointer,
    behind last: inout IndexEntry?
  ) -> Bool {
    let entryCount = min(
      IndexRun.entriesPerBlock,
      Int(run.entryCount) - block * IndexRun.entriesPerBlock
    )
    guard let base = bytes.baseAddress, bytes.count == entryCount * IndexEntry.byteCount else {
      return false
    }
    for index in 0..<entryCount {
      let entry = IndexEntry(loadingFrom: base + index * IndexEntry.byteCount)
      if index == 0, entry.prefix != run.fences[block] { return false }
      if let last, entry < last { return false }
      last = entry
    }
    return true
  }
}
