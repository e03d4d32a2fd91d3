package import GRDB

/// A snapshot's extents in ascending order of PFN, in batches of bounded size; within a batch a
/// chunk is decoded once.
///
/// Only a snapshot with more extents than a batch holds takes several batches, and may decode a
/// chunk more than once.
package struct ExtentBatches {
  /// Two million extents: 64 MiB, and 18 more for a ``RestoreSchedule``.
  package static let capacity = 2 << 20

  private let snapshot: SnapshotRow
  private let capacity: Int
  private let comparesChecksums: Bool
  private var nextPFN: UInt64? = 0
  private var tally = ExtentTally()

  /// The extents of `snapshot`, from the first.
  ///
  /// - Parameter comparesChecksums: As ``ExtentTally/requireComplete(_:comparesChecksums:_:)``.
  package init(
    snapshot: SnapshotRow,
    comparesChecksums: Bool = true,
    capacity: Int = Self.capacity
  ) {
    self.snapshot = snapshot
    self.comparesChecksums = comparesChecksums
    self.capacity = capacity
  }

  /// The next batch, or `nil` at the end. Reads in one short transaction.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` for damaged extents, and at the end for lost ones;
  ///   `notFound` when the snapshot was deleted in the meantime.
  package mutating func next(_ database: Database) throws -> [Extent]? {
    guard let firstPFN = nextPFN else { return nil }
    var extents: [Extent] = []
    try database.inTransaction(.deferred) {
      var reader = try ExtentReader(database, snapshotID: snapshot.id, firstPFN: firstPFN)
      while extents.count < capacity, let extent = try reader.next() { extents.append(extent) }
      // An incomplete read leaves the statement in the middle.
      reader.reset()
      return .commit
    }
    nextPFN = extents.count == capacity ? extents.last.map(\.endPFN) : nil
    for extent in extents { tally.add(extent) }
    if nextPFN == nil {
      try tally.requireComplete(snapshot, comparesChecksums: comparesChecksums, database)
    }
    return extents
  }
}
