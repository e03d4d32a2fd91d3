import GRDB

/// Decides for each page whether its content is stored already, and where a new one goes.
///
/// Looks at the parent's page at the same PFN, then at the pages that this save has stored, then
/// at the page index. All in one thread and in ascending order of PFN, so that the same RAM saved
/// into the same store makes the same chunks.
struct PageStorer {
  private let parent: ParentPages?
  private let newPages: NewPageTable
  private var index: PageIndex
  private var dataCheck: ChunkDataCheck
  private(set) var newPageCount: UInt64 = 0

  init(
    _ database: Database,
    parentID: Int64?,
    newPageCapacity: Int = NewPageTable.defaultCapacity
  ) throws {
    parent = try parentID.map { try ParentPages(database, snapshotID: $0) }
    newPages = NewPageTable(capacity: newPageCapacity)
    index = try PageIndex(database)
    dataCheck = try ChunkDataCheck(database)
  }

  /// Whether looking up a page may read the database; else only its own table.
  var needsDatabase: Bool { parent != nil || !index.isEmpty }

  /// Must be called before the pages of `window` are asked for.
  mutating func begin(_ window: RAMWindow) throws {
    try parent?.load(window)
  }

  /// Where the page's content is stored already, if it is.
  ///
  /// - Parameter windowIndex: The page's place in the current window; `nil` for a page that is
  ///   not RAM.
  mutating func storedLocation(
    of digest: PageDigest,
    windowIndex: Int?
  ) throws -> PageLocation? {
    if let windowIndex, let location = parent?.location(at: windowIndex, of: digest),
      try dataCheck.hasData(location.chunkID)
    {
      return location
    }
    if let location = newPages.location(of: digest) { return location }
    guard !index.isEmpty, let location = try index.location(of: digest),
      try dataCheck.hasData(location.chunkID)
    else { return nil }
    return location
  }

  /// Notes that a page was put into a chunk.
  mutating func note(_ digest: PageDigest, at location: PageLocation) {
    newPages.insert(digest, at: location)
    newPageCount += 1
  }

  /// Whether ``flushNewPages(_:)`` must be called before the next page is noted.
  var mustFlush: Bool { newPages.isFull }

  /// Writes the noted pages as a sorted run, in the caller's transaction.
  mutating func flushNewPages(_ database: Database) throws {
    try PageIndex.append(newPages.removeAllSorted(), to: database)
    index = try PageIndex(database)
  }

  /// Merges runs of like size, in transactions of its own: a save of very many new pages makes one
  /// run after another, and each costs every lookup.
  mutating func mergeIndex(_ database: Database) throws {
    try IndexMerge.mergeRunsOfLikeSize(database)
    index = try PageIndex(database)
  }
}
