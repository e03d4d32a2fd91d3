import Algorithms
package import GRDB

/// Finds where a page's content is stored, over all snapshots, by its digest.
///
/// The index is a log-structured merge tree. A save appends its new digests as one sorted run;
/// ``IndexMerge`` merges runs of like size, so that there are few. A b-tree of digests would
/// dirty another page with every insert, because digests are random.
///
/// Entries hold 8 bytes of a digest. A hit counts only when all 32 bytes, which are in the chunk's
/// row, agree. So two pages whose prefixes collide, even by a guest's design, stay two pages, and an
/// entry whose chunk is gone does no harm.
package struct PageIndex {
  private let loaded: LoadedRuns
  private let selectBlock: HotStatement
  private let digests: DigestReader

  /// Loads the runs' fences.
  package init(
    _ database: Database,
    filterMemoryByteCount: Int = LoadedRuns.filterMemoryByteCount
  ) throws {
    loaded = try LoadedRuns(database, filterMemoryByteCount: filterMemoryByteCount)
    selectBlock = try HotStatement(database, "SELECT entries FROM page_index_block WHERE id = ?")
    digests = try DigestReader(database)
  }

  var isEmpty: Bool { loaded.runs.isEmpty }

  /// Where the page with `digest` is stored, if it is.
  ///
  /// - Parameter isWanted: Whether a location will do.
  /// - Complexity: For each run a look at its filter, which rules out all but one absent page in 200.
  ///   Else a block read and a binary search, and a row read for each entry with the digest's prefix.
  package func location(
    of digest: PageDigest,
    where isWanted: (PageLocation) -> Bool = { _ in true }
  ) throws -> PageLocation? {
    for run in loaded.runs where try loaded.mayHold(digest.prefix, run) {
      var block = run.firstBlock(for: digest.prefix)
      while block < run.fences.count, run.fences[block] <= digest.prefix {
        if let location = try search(run.blockID(block), for: digest, where: isWanted) {
          return location
        }
        block += 1
      }
    }
    return nil
  }

  /// Whether memory alone shows that no page with `digest` is stored.
  func isKnownToLack(_ digest: PageDigest) -> Bool {
    loaded.runs.allSatisfy { loaded.isKnownNotToHold(digest.prefix, $0) }
  }

  private func search(
    _ blockID: Int64,
    for digest: PageDigest,
    where isWanted: (PageLocation) -> Bool
  ) throws -> PageLocation? {
    selectBlock.bind(blockID, at: 1)
    defer { selectBlock.reset() }
    guard try selectBlock.step() else { return nil }
    return try selectBlock.withBlob(0) { (blob) throws -> PageLocation? in
      guard let base = blob.baseAddress else { return nil }
      let count = blob.count / IndexEntry.byteCount
      var index = (0..<count).partitioningIndex {
        IndexEntry(loadingFrom: base + $0 * IndexEntry.byteCount).prefix >= digest.prefix
      }
      while index < count {
        let entry = IndexEntry(loadingFrom: base + index * IndexEntry.byteCount)
        guard entry.prefix == digest.prefix else { return nil }
        if entry.location.chunkID > 0, isWanted(entry.location),
          try digests.matches(entry.location, digest)
        {
          return entry.location
        }
        index += 1
      }
      return nil
    }
  }

  /// Appends `entries`, in ascending order, as a new run, in the caller's transaction.
  package static func append(_ entries: [IndexEntry], to database: Database) throws {
    guard !entries.isEmpty else { return }
    var writer = try IndexRunWriter(database, maximumEntryCount: UInt64(entries.count))
    for entry in entries { try writer.append(entry) }
    _ = try writer.finish()
  }

  /// Removes runs that a merge has replaced, and what a merge that died has left. Only for the
  /// holder of the writer's lock.
  ///
  /// - Throws: ``VMCheckpointError`` when cancelled, and with the code `corrupt` for more runs than any
  ///   crash leaves; or `DatabaseError`. What was removed until then is.
  package static func removeUnfinishedRuns(
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws {
    let ids = try Int64.fetchAll(
      database,
      sql: """
        SELECT id FROM page_index_run WHERE state = 'building' LIMIT \(IndexRun.maximumCount + 1)
        """
    )
    guard ids.count <= IndexRun.maximumCount else { throw IndexRun.tooMany() }
    for id in ids { try IndexRun.deleteInBatches(database, id: id, cancellation) }
  }
}
