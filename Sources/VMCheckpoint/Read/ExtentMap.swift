import Algorithms
import GRDB

/// All extents of a snapshot in memory: 32 bytes for each.
final class ExtentMap: Sendable {
  private let extents: [Extent]

  /// Reads them in the caller's transaction, for which a writer's commit waits: about a second for a million.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` when extents are damaged, lost, or not RAM; `notFound` when
  ///   the snapshot was deleted; `outOfResources`.
  init(_ snapshot: SnapshotRow, _ layout: RAMLayout, _ database: Database) throws {
    let count =
      try Int.fetchOne(
        database,
        sql: "SELECT count(*) FROM ram_extent WHERE snapshot_id = ?",
        arguments: [snapshot.id]
      ) ?? 0
    try LargeMemory.require(byteCount: count * MemoryLayout<Extent>.stride)
    var extents: [Extent] = []
    extents.reserveCapacity(count)
    // One at other PFNs would leave zeros where its pages were: each is proved by the digests that it names.
    var reader = try ExtentReader(database, snapshotID: snapshot.id, withChunks: true)
    let check = ExtentCheck(try StoreSeed(database), snapshot: snapshot.uuid)
    let stored = snapshot.stored
    var tally = ExtentTally()
    while let extent = try reader.next() {
      let (first, last) = (extent.firstPFN, extent.endPFN - 1)
      guard layout.isRAM(from: PFN(unchecked: first), through: PFN(unchecked: last)) else {
        throw VMCheckpointError.corrupt(
          "\(snapshot.title) is damaged: the extent at PFN \(hexString(first)) is not RAM"
        )
      }
      try extent.check(reader.chunk(of: extent), of: stored, with: check)
      tally.add(extent)
      extents.append(extent)
    }
    try tally.requireComplete(snapshot, database)
    self.extents = extents
  }

  /// The chunks of all extents in the order of the pages; one may come several times.
  var chunkIDs: some Sequence<Int64> { extents.lazy.map(\.chunkID) }

  /// What holds a page: an extent, or zeros up to the next one.
  enum Place {
    case extent(Extent)
    /// No page below is stored; 2⁶⁴ - 1: none at all.
    case zeros(endPFN: UInt64)
  }

  /// - Complexity: O(log *n*).
  func place(of pfn: UInt64) -> Place {
    var (low, high) = (0, extents.count)
    while low < high {
      let middle = (low + high) / 2
      if extents[middle].endPFN <= pfn { low = middle + 1 } else { high = middle }
    }
    guard low < extents.count else { return .zeros(endPFN: .max) }
    let extent = extents[low]
    return extent.firstPFN <= pfn ? .extent(extent) : .zeros(endPFN: extent.firstPFN)
  }

  /// The pages without an extent around `pfn`, which has none; to 2⁶⁴ - 1 after the last extent.
  ///
  /// - Complexity: O(log *n*).
  func gap(around pfn: UInt64) -> Range<UInt64> {
    let next = extents.partitioningIndex { $0.endPFN > pfn }
    let first = next > 0 ? extents[next - 1].endPFN : 0
    return first..<(next < extents.count ? extents[next].firstPFN : .max)
  }
}
