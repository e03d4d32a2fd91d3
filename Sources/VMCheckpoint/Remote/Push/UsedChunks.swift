import GRDB

/// The chunks that a snapshot's pages are in, in the order of the pages, with the slots that it uses.
///
/// 12 bytes a chunk, and a table of as many entries.
struct UsedChunks: Equatable {
  private(set) var ids: [Int64] = []
  private(set) var slots: [UInt16] = []
  /// The sum of the extents' checksums: of the pages' contents, wherever they are.
  private(set) var checksum: UInt64 = 0
  private var indices: [Int64: Int] = [:]

  /// - Throws: ``VMCheckpointError`` with the code `corrupt`, `notFound` when the snapshot was deleted meanwhile,
  ///   `cancelled`; or `DatabaseError`.
  init(
    of snapshot: SnapshotRow,
    _ overlays: StoredOverlays,
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws {
    var extents = try ExtentReader(database, snapshotID: snapshot.id)
    defer { extents.reset() }
    var tally = ExtentTally()
    var count = 0
    while let extent = try extents.next() {
      count += 1
      if count % 65536 == 0 { try cancellation.check() }
      tally.add(extent)
      add(extent.chunkID, extent.slotMask)
    }
    try tally.requireComplete(snapshot, database)
    checksum = tally.checksum
    for entry in overlays.entries {
      guard let location = entry.contentsLocation else { continue }
      add(location.chunkID, 1 << UInt16(location.slot))
    }
  }

  private mutating func add(_ chunkID: Int64, _ mask: UInt16) {
    if let index = indices[chunkID] {
      slots[index] |= mask
    } else {
      indices[chunkID] = ids.count
      ids.append(chunkID)
      slots.append(mask)
    }
  }
}
