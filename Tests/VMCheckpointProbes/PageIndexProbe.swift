import GRDB
import VMCheckpoint

/// Gives tests the page index of a store, with digests that they make up.
///
/// Each call is a transaction, as a save would make it. One thread at a time.
package final class PageIndexProbe {
  /// An entry as tests write it.
  package struct Entry: Hashable, Sendable {
    package var prefix: UInt64
    package var chunkID: Int64
    package var slot: Int

    package init(prefix: UInt64, chunkID: Int64, slot: Int) {
      self.prefix = prefix
      self.chunkID = chunkID
      self.slot = slot
    }
  }

  private let queue: DatabaseQueue

  /// Opens the store at `path`.
  package init(path: String) throws {
    queue = try StoreConnection.open(location: StoreLocation(path), busy: BusyPolicy()).queue
  }

  /// Appends a run of `entries`, in ascending order.
  package func append(_ entries: [Entry]) throws {
    try queue.write { database in
      try PageIndex.append(
        entries.map {
          IndexEntry(
            prefix: $0.prefix,
            location: PageLocation(chunkID: $0.chunkID, slot: $0.slot)
          )
        }.sorted(),
        to: database
      )
    }
  }

  /// Writes a run and stops before it is finished, as a merge that dies does.
  package func appendUnfinished(_ entries: [Entry]) throws {
    try queue.write { database in
      var writer = try IndexRunWriter(database, maximumEntryCount: UInt64(entries.count))
      for entry in entries {
        try writer.append(
          IndexEntry(
            prefix: entry.prefix,
            location: PageLocation(chunkID: entry.chunkID, slot: entry.slot)
          )
        )
      }
    }
  }

  /// Where pages with these SHA-256s, 32 bytes each, are stored.
  ///
  /// - Parameter filterMemoryByteCount: What filters may take; `nil`: as in a save.
  package func locations(
    of digests: [[UInt8]],
    filterMemoryByteCount: Int? = nil
  ) throws -> [Entry?] {
    try queue.read { database in
      let index = try PageIndex(
        database,
        filterMemoryByteCount: filterMemoryByteCount ?? LoadedRuns.filterMemoryByteCount
      )
      return try digests.map { bytes in
        let digest = bytes.withUnsafeBytes { PageDigest(loadingFrom: $0.baseAddress!) }
        return try index.location(of: digest).map {
          Entry(prefix: digest.prefix, chunkID: $0.chunkID, slot: $0.slot)
        }
      }
    }
  }

  /// The entry counts of the active runs, in the order of their making.
  package func runSizes() throws -> [UInt64] {
    try queue.read { try IndexRun.fetchActive($0).map(\.entryCount) }
  }

  /// How many runs each of `prefixes` is in, as far as filters tell.
  package func possibleRunCounts(
    of prefixes: [UInt64],
    filterMemoryByteCount: Int
  ) throws -> [Int] {
    try queue.read { database in
      let loaded = try LoadedRuns(database, filterMemoryByteCount: filterMemoryByteCount)
      return try prefixes.map { prefix in
        try loaded.runs.reduce(0) { try $0 + (loaded.mayHold(prefix, $1) ? 1 : 0) }
      }
    }
  }

  /// The level of a run with so many entries: runs of one level are merged when there are
  /// ``fanIn`` of them.
  package static func level(entryCount: UInt64) -> Int { IndexMerge.level(entryCount: entryCount) }

  package static var fanIn: Int { IndexMerge.fanIn }

  package func mergeRunsOfLikeSize() throws {
    try queue.writeWithoutTransaction { try IndexMerge.mergeRunsOfLikeSize($0, CancellationFlag()) }
  }

  package func compact(droppingChunks dead: Set<Int64>) throws {
    try queue.writeWithoutTransaction { database in
      try IndexMerge.compact(database, CancellationFlag()) { !dead.contains($0.chunkID) }
    }
  }

  package func removeUnfinishedRuns() throws {
    try queue.writeWithoutTransaction { try PageIndex.removeUnfinishedRuns($0, CancellationFlag()) }
  }

  /// Stores pages by their digests alone, as a save does whose table of new pages holds
  /// `newPageCapacity`; each new one goes to the next slot after `firstChunkID`.
  ///
  /// - Returns: Where each page is, and how many were new.
  package func store(
    _ digests: [[UInt8]],
    newPageCapacity: Int,
    firstChunkID: Int64,
    insertChunk: (_ chunkID: Int64, _ digests: [UInt8]) throws -> Void
  ) throws -> (locations: [Entry], newPageCount: UInt64) {
    try queue.writeWithoutTransaction { database in
      var storer = try PageStorer(database, newPageCapacity: newPageCapacity)
      var chunkID = firstChunkID
      var open: [UInt8] = []
      var locations: [Entry] = []
      for bytes in digests {
        let digest = bytes.withUnsafeBytes { PageDigest(loadingFrom: $0.baseAddress!) }
        var location: PageLocation?
        switch storer.knowledge(of: digest) {
        case .stored(let known): location = known
        case .new: location = nil
        case .unknown: location = try storer.lookUp(digest)
        }
        if location == nil {
          if storer.mustFlush {
            try database.inTransaction(.immediate) {
              try storer.flushNewPages(database, ChunkNumbers(1))
              return .commit
            }
          }
          let made = PageLocation(chunkID: chunkID, slot: open.count / PageDigest.byteCount)
          storer.note(digest, at: made)
          open += bytes
          location = made
          // The row is there before a flushed entry could be looked up.
          try insertChunk(chunkID, open)
          if open.count == PageDigest.byteCount * ChunkFormat.pageCapacity {
            open = []
            chunkID += 1
          }
        }
        locations.append(
          Entry(prefix: digest.prefix, chunkID: location!.chunkID, slot: location!.slot)
        )
      }
      return (locations, storer.newPageCount)
    }
  }
}
