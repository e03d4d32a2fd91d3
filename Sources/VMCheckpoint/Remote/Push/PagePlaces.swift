/// Where the pages of a snapshot that is pushed are in the remote: by chunk where a chunk is there as it is, else page
/// by page.
struct PagePlaces {
  private var chunks: [Int64: (pack: UInt32, entry: UInt32)] = [:]
  private var pages: [PageLocation: ManifestFacts.Place] = [:]
  private var numbers: [RemoteID: UInt32] = [:]
  /// The packs that have a place, in the order of their first.
  private(set) var packs: [RemoteID] = []

  /// The number of a pack in the manifest.
  mutating func number(of pack: RemoteID) -> UInt32 {
    if let number = numbers[pack] { return number }
    let number = UInt32(packs.count)
    numbers[pack] = number
    packs.append(pack)
    return number
  }

  /// Notes that a chunk is there as it is.
  mutating func set(chunk chunkID: Int64, in pack: RemoteID, entry: Int) {
    chunks[chunkID] = (number(of: pack), UInt32(entry))
  }

  /// Notes where one page is.
  mutating func set(_ page: PageLocation, in pack: RemoteID, entry: Int, slot: Int) {
    pages[page] = .init(pack: number(of: pack), entry: UInt32(entry), slot: UInt8(slot))
  }

  func hasChunk(_ chunkID: Int64) -> Bool { chunks[chunkID] != nil }

  /// Where a page is.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when it has no place: it was not there when the push began.
  func place(of page: PageLocation) throws(VMCheckpointError) -> ManifestFacts.Place {
    if let chunk = chunks[page.chunkID] {
      return .init(pack: chunk.pack, entry: chunk.entry, slot: UInt8(page.slot))
    }
    guard let place = pages[page] else {
      throw .corrupt("chunk \(page.chunkID) came while the snapshot was pushed")
    }
    return place
  }
}
