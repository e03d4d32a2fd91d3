import GRDB

/// Who else holds the pages of a snapshot: for each chunk that it uses, the slots that others use.
///
/// Some 40 bytes for each chunk of the snapshot, however many other snapshots there are.
struct ContentSharing {
  private struct Holders {
    var parent: UInt16 = 0
    var vm: UInt16 = 0
    var otherVMs: UInt16 = 0
  }

  private var indexes: [Int64: Int32] = [:]
  private var holders: [Holders] = []

  /// Reads the extents of every complete snapshot.
  init(_ database: Database, _ snapshot: SnapshotRow, cancellation: CancellationFlag) throws {
    try Self.forEachExtent(database, snapshot.id, cancellation) { extent in
      if indexes[extent.chunkID] == nil {
        indexes[extent.chunkID] = Int32(holders.count)
        holders.append(Holders())
      }
    }
    for other in try SnapshotCatalog.all(in: database) where other.id != snapshot.id {
      let set: WritableKeyPath<Holders, UInt16> =
        other.vm != snapshot.vm
        ? \.otherVMs : other.id == snapshot.parentID ? \.parent : \.vm
      try Self.forEachExtent(database, other.id, cancellation) { extent in
        guard let index = indexes[extent.chunkID] else { return }
        holders[Int(index)][keyPath: set] |= extent.slotMask
      }
    }
    // A parent of another VM is still the parent.
    if let parentID = snapshot.parentID,
      let parent = try SnapshotCatalog.fetch(id: parentID, in: database), parent.vm != snapshot.vm
    {
      try Self.forEachExtent(database, parentID, cancellation) { extent in
        guard let index = indexes[extent.chunkID] else { return }
        holders[Int(index)].parent |= extent.slotMask
      }
    }
  }

  /// Runs `body` for the extents of a snapshot in ascending order of PFN.
  static func forEachExtent(
    _ database: Database,
    _ snapshotID: Int64,
    _ cancellation: CancellationFlag,
    _ body: (Extent) throws -> Void
  ) throws {
    var extents = try ExtentReader(database, snapshotID: snapshotID)
    var count = 0
    while let extent = try extents.next() {
      count += 1
      if count % 65536 == 0 { try cancellation.check() }
      try body(extent)
    }
  }

  /// The class of each page of an extent of the snapshot.
  func forEachPage(of extent: Extent, _ body: (UInt64, PageClass) -> Void) {
    let holders = indexes[extent.chunkID].map { self.holders[Int($0)] } ?? Holders()
    for index in 0..<Int(extent.pageCount) {
      let bit = UInt16(1) << (UInt16(extent.firstSlot) + UInt16(index))
      let pageClass: PageClass =
        if holders.otherVMs & bit != 0 {
          .sharedWithOtherVMs
        } else if holders.parent & bit != 0 {
          .sharedWithParent
        } else if holders.vm & bit != 0 {
          .sharedWithinVM
        } else {
          .unique
        }
      body(extent.firstPFN + UInt64(index), pageClass)
    }
  }
}
