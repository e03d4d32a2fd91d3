import GRDB

/// A snapshot's extents in ascending order of PFN, in batches of bounded size; within a batch a
/// chunk is decoded once.
///
/// Only a snapshot with more extents than a batch holds takes several batches, and may decode a
/// chunk more than once.
struct ExtentBatches {
  /// Two million extents: 48 MiB, and 18 more for a ``RestoreSchedule``.
  static let capacity = 2 << 20

  private let snapshot: SnapshotRow
  private let capacity: Int
  private var nextPFN: UInt64? = 0
  private(set) var pageCount: UInt64 = 0

  init(snapshot: SnapshotRow, capacity: Int = Self.capacity) {
    self.snapshot = snapshot
    self.capacity = capacity
  }

  /// The next batch, or `nil` at the end. Reads in one short transaction.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` for damaged extents, `notFound` when the snapshot
  ///   was deleted in the meantime.
  mutating func next(_ database: Database) throws -> [Extent]? {
    guard let firstPFN = nextPFN else { return nil }
    var extents: [Extent] = []
    try database.inTransaction(.deferred) {
      var reader = try ExtentReader(database, snapshotID: snapshot.id, firstPFN: firstPFN)
      while extents.count < capacity, let extent = try reader.next() { extents.append(extent) }
      // An incomplete read leaves the statement in the middle.
      reader.rewind(toPFN: 0, through: 0)
      return .commit
    }
    nextPFN = extents.count == capacity ? extents.last.map(\.endPFN) : nil
    pageCount += extents.reduce(0) { $0 + UInt64($1.pageCount) }
    if nextPFN == nil { try checkEnd(database) }
    return extents
  }

  private func checkEnd(_ database: Database) throws {
    guard pageCount != snapshot.storedPageCount else { return }
    guard try SnapshotCatalog.fetch(id: snapshot.id, in: database) != nil else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
    throw VMCheckpointError(
      .corrupt,
      "\(snapshot.title) is damaged: it has \(pageCount) pages instead of "
        + "\(snapshot.storedPageCount)",
      hint: "see what is hurt with: vmckpt verify"
    )
  }
}
