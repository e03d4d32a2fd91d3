import GRDB

/// Decides for each page whether its content is stored already, and where a new one goes.
///
/// Looks at the pages that this save has stored, then at the page index; ``ParentPages`` has found
/// before what did not change. All in one thread and in ascending order of PFN, so that the same RAM saved
/// into the same store makes the same chunks.
struct PageStorer {
  private let newPages: NewPageTable
  private var index: PageIndex
  private var dataCheck: ChunkDataCheck
  private(set) var newPageCount: UInt64 = 0

  init(_ database: Database, newPageCapacity: Int = NewPageTable.defaultCapacity) throws {
    newPages = NewPageTable(capacity: newPageCapacity)
    index = try PageIndex(database)
    dataCheck = try ChunkDataCheck(database)
  }

  /// Whether ``storedLocation(of:)`` may read the database; else only its own table.
  var needsDatabase: Bool { !index.isEmpty }

  /// Where the page's content is stored already, if it is; a page that the parent has at the same
  /// PFN is found before.
  mutating func storedLocation(of digest: PageDigest) throws -> PageLocation? {
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
}
