import GRDB

/// The parent snapshot's pages at the PFNs of one window: the first place to look for a page's
/// content, because most of a VM's pages stay as they were. Reads extents and digests in order.
final class ParentPages {
  private var extents: ExtentReader
  private let digestReader: DigestReader
  private let digests: UnsafeMutablePointer<PageDigest>
  /// 0: the parent's page is zero, or no RAM.
  private let locations: UnsafeMutablePointer<UInt64>

  init(_ database: Database, snapshotID: Int64) throws {
    extents = try ExtentReader(database, snapshotID: snapshotID)
    digestReader = try DigestReader(database)
    digests = .allocate(capacity: RAMWindow.pageCapacity + StoreFormat.chunkPageCapacity)
    digests.initialize(
      repeating: PageDigest(words: (0, 0, 0, 0)),
      count: RAMWindow.pageCapacity + StoreFormat.chunkPageCapacity
    )
    locations = .allocate(capacity: RAMWindow.pageCapacity)
  }

  deinit {
    digests.deallocate()
    locations.deallocate()
  }

  /// Loads what the parent has at the window's PFNs.
  func load(_ window: RAMWindow) throws {
    locations.initialize(repeating: 0, count: RAMWindow.pageCapacity)
    // An extent that begins up to 15 pages before the window may reach into it.
    let reach = UInt64(StoreFormat.chunkPageCapacity - 1)
    let firstPFN = window.firstPFN
    extents.rewind(
      toPFN: firstPFN < reach ? 0 : firstPFN - reach,
      through: window.endPFN - 1
    )
    while let extent = try extents.next() {
      let skipped = extent.firstPFN < firstPFN ? Int(firstPFN - extent.firstPFN) : 0
      let count = Int(min(extent.endPFN, window.endPFN)) - Int(extent.firstPFN) - skipped
      guard count > 0 else { continue }
      let index = Int(extent.firstPFN) + skipped - Int(firstPFN)
      guard
        try digestReader.read(
          extent.chunkID,
          firstSlot: Int(extent.firstSlot) + skipped,
          count: count,
          into: digests + index
        )
      else { continue }
      for offset in 0..<count {
        locations[index + offset] = extent.location(at: skipped + offset).packed
      }
    }
  }

  /// Where the parent has the page at `index` of the window, if that has `digest`.
  @inline(__always)
  func location(at index: Int, of digest: PageDigest) -> PageLocation? {
    guard locations[index] != 0, digests[index] == digest else { return nil }
    return PageLocation(packed: locations[index])
  }
}
