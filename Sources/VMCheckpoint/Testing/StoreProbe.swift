import GRDB

/// Gives tests what a store does inside its operations.
package enum StoreProbe {
  /// An extent as tests compare it.
  package struct Extent: Hashable, Sendable {
    package var firstPFN: UInt64
    package var pageCount: Int
    package var chunkID: Int64
    package var firstSlot: Int
  }

  /// The batches in which a restore would read a snapshot's extents if one held `capacity`.
  package static func extentBatches(
    storePath: String,
    snapshot: String,
    capacity: Int
  ) throws -> [[Extent]] {
    let queue = try StoreConnection.open(location: StoreLocation(storePath), busy: BusyPolicy())
      .queue
    return try queue.writeWithoutTransaction { database in
      var batches = ExtentBatches(
        snapshot: try SnapshotCatalog.resolve(SnapshotReference(snapshot), in: database),
        capacity: capacity
      )
      var all: [[Extent]] = []
      while let batch = try batches.next(database) {
        all.append(
          batch.map {
            Extent(
              firstPFN: $0.firstPFN,
              pageCount: Int($0.pageCount),
              chunkID: $0.chunkID,
              firstSlot: Int($0.firstSlot)
            )
          }
        )
      }
      return all
    }
  }

  /// Brings the store at `path` up by the format's migrations and then by `steps`.
  package static func migrate(
    path: String,
    steps: [(version: Int32, sql: String)]
  ) throws {
    let queue = try DatabaseQueue(path: path)
    try StoreConnection.migrate(
      queue,
      with: StoreFormat.migrations
        + steps.map { StoreFormat.Migration(version: $0.version, sql: $0.sql) }
    )
  }
}
