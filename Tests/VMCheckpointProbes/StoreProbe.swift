import GRDB
package import VMCheckpoint

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

  /// Restores a snapshot without its overlays by way of windows of another size and number.
  ///
  /// - Returns: How many bytes were decoded.
  package static func restore(
    _ snapshot: String,
    of store: Store,
    to path: String,
    windowPageCapacity: Int,
    windowCount: Int?,
    threadCount: Int
  ) throws -> UInt64 {
    let control = OperationControl(threadCount: threadCount)
    let request = RestoreRequest(
      reference: try SnapshotReference(snapshot),
      output: .file(path: path),
      overlays: .omit
    )
    return try store.withSharedChunks(control: control) { database in
      let clock = StageClock<RestoreStage>()
      let output = try OutputFile(path: path, overwriting: false)
      let plan = try RestorePlan(request, database)
      try FileRestore(
        plan: plan,
        form: RestoredForm(flat: plan.layout),
        outputs: [output],
        verifiesPages: true,
        clock: clock,
        control: control,
        window: FileRestore.Window(pageCapacity: windowPageCapacity, count: windowCount)
      ).run(database, patches: [])
      try output.commit()
      return clock.times.first { $0.stage == RestoreStage.decompress.rawValue }?.byteCount ?? 0
    }
  }

  /// Opens and closes the store at `path` as a program does whose format has `steps` more.
  package static func open(
    path: String,
    for purpose: StorePurpose,
    steps: [(version: Int32, sql: String)]
  ) throws(VMCheckpointError) {
    let (queue, _) = try StoreConnection.open(
      location: StoreLocation(path),
      for: purpose,
      busy: BusyPolicy(),
      migrations: StoreFormat.migrations
        + steps.map { StoreFormat.Migration(version: $0.version, sql: $0.sql) }
    )
    ConnectionKeeper.retire(queue)
  }
}
