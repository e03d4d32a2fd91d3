package import GRDB

/// Decides for each page whether its content is stored already, and where a new one goes.
///
/// ``ParentPages`` has found before which pages did not change. For the others this looks at the pages
/// that this save has stored, then at those of chunks that it came across, then at the page index. All
/// in one thread and in ascending order of PFN, so that the same RAM saved into the same store makes
/// the same chunks.
package struct PageStorer {
  /// 64 Ki pages of 4096 chunks: 3 MiB.
  private static let neighbourCapacity = 64 << 10

  private let newPages: PageTable
  /// The pages of chunks in which pages were found. What was saved together comes together again,
  /// wherever another boot has put it: one look into the index finds a chunk's other pages as well.
  private let neighbours: PageTable
  private let chunkDigests: DigestReader
  private var index: PageIndex
  private var dataCheck: ChunkDataCheck
  /// The pages that ``note(_:at:)`` was given.
  package private(set) var newPageCount: UInt64 = 0

  /// Loads the page index.
  ///
  /// - Parameter newPageCapacity: The pages that may be noted between two flushes; `nil`: as in a save.
  package init(_ database: Database, newPageCapacity: Int? = nil) throws {
    newPages = try PageTable(capacity: newPageCapacity ?? PageTable.defaultCapacity)
    neighbours = try PageTable(capacity: Self.neighbourCapacity)
    index = try PageIndex(database)
    chunkDigests = try DigestReader(database)
    dataCheck = try ChunkDataCheck(database)
  }

  /// What memory alone shows of a page's content.
  package enum Knowledge {
    /// It is stored here.
    case stored(PageLocation)
    /// It is not stored.
    case new
    /// The database must be asked.
    case unknown
  }

  /// What memory alone shows of the page with `digest`.
  package func knowledge(of digest: PageDigest) -> Knowledge {
    if let location = newPages.location(of: digest) ?? neighbours.location(of: digest) {
      return .stored(location)
    }
    return index.isKnownToLack(digest) ? .new : .unknown
  }

  /// Where the page's content is stored already, if it is: what the database says of a page whose
  /// ``knowledge(of:)`` is unknown.
  ///
  /// - Throws: `DatabaseError`.
  package mutating func lookUp(_ digest: PageDigest) throws -> PageLocation? {
    guard let location = try index.location(of: digest), try dataCheck.hasData(location.chunkID)
    else { return nil }
    try noteNeighbours(of: location)
    return location
  }

  /// Notes that a page was put into a chunk.
  package mutating func note(_ digest: PageDigest, at location: PageLocation) {
    newPages.insert(digest, at: location)
    newPageCount += 1
  }

  private func noteNeighbours(of location: PageLocation) throws {
    if neighbours.count + ChunkFormat.pageCapacity > neighbours.capacity {
      neighbours.removeAll()
    }
    for (slot, digest) in try chunkDigests.all(location.chunkID).enumerated()
    where neighbours.location(of: digest) == nil {
      neighbours.insert(digest, at: PageLocation(chunkID: location.chunkID, slot: slot))
    }
  }

  // MARK: The page index

  /// Whether ``flushNewPages(_:_:)`` must be called before the next page is noted.
  package var mustFlush: Bool { newPages.isFull }

  /// How many pages may be noted before that.
  var roomForNewPages: Int { newPages.capacity - newPages.count }

  /// Writes the noted pages as a sorted run, in the caller's transaction. Their chunks are written.
  package mutating func flushNewPages(_ database: Database, _ numbers: ChunkNumbers) throws {
    try PageIndex.append(newPages.removeAllSorted(numbers), to: database)
    index = try PageIndex(database)
  }

  /// Merges runs of like size, in transactions of its own: a save of very many new pages makes one
  /// run after another, and each costs every lookup.
  mutating func mergeIndex(_ database: Database, _ cancellation: CancellationFlag) throws {
    try IndexMerge.mergeRunsOfLikeSize(database, cancellation)
    index = try PageIndex(database)
  }
}
