/// Where the pages of a snapshot that is copied are in the other store: by chunk where they are in one chunk in the same
/// slots, else page by page.
///
/// 16 bytes a chunk, and 128 for one whose pages are scattered.
struct CopiedPlaces {
  private var wholes: [Int64: Int64] = [:]
  private var scattered: [Int64: Int] = [:]
  /// Packed locations; 16 for each scattered chunk, of which 0 stands for none.
  private var locations: [UInt64] = []

  /// Notes that a chunk is there as it is.
  mutating func set(chunk chunkID: Int64, at other: Int64) { wholes[chunkID] = other }

  /// Notes where a page is.
  mutating func set(_ page: PageLocation, at other: PageLocation) {
    let start: Int
    if let known = scattered[page.chunkID] {
      start = known
    } else {
      start = locations.count
      scattered[page.chunkID] = start
      locations += repeatElement(0, count: ChunkFormat.pageCapacity)
    }
    locations[start + page.slot] = other.packed
  }

  /// Where a page is.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when it has no place: the snapshot did not have it before.
  func place(of page: PageLocation) throws(VMCheckpointError) -> PageLocation {
    if let chunkID = wholes[page.chunkID] {
      return PageLocation(chunkID: chunkID, slot: page.slot)
    }
    guard let start = scattered[page.chunkID], locations[start + page.slot] != 0 else {
      throw .corrupt("chunk \(page.chunkID) came while the snapshot was copied")
    }
    return PageLocation(packed: locations[start + page.slot])
  }
}
