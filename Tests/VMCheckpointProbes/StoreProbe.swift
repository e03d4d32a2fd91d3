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

  /// Copies the chunks that hold these pages from one store into another, by their digests of 32 bytes.
  ///
  /// - Returns: How many chunks the other lacked.
  package static func copyChunks(
    holding digests: [[UInt8]],
    from source: String,
    to destination: String
  ) throws -> Int {
    let buffer = try ChunkBuffer()
    let from = try Store.open(at: source)
    let to = try Store.openOrCreate(at: destination)
    return try from.read { source in
      let finder = try ChunkFinder(source)
      var count = 0
      for digest in digests.map(digest) {
        guard try finder.load(holding: digest, into: buffer) != nil else { continue }
        count += try to.write { database in
          guard try ChunkFinder(database).load(holding: digest, into: ChunkBuffer()) == nil else {
            return 0
          }
          buffer.chunkID = try ChunkWriter.nextChunkID(database)
          try ChunkWriter(database).insert(buffer)
          let entries = (0..<buffer.pageCount).map { slot in
            IndexEntry(
              prefix: buffer.digest(slot).prefix,
              location: PageLocation(chunkID: buffer.chunkID, slot: slot)
            )
          }
          try PageIndex.append(entries.sorted(), to: database)
          return 1
        }
      }
      return count
    }
  }

  /// The page with this digest, its SHA-256 compared; `nil` when the store has no such page.
  package static func page(holding digest: [UInt8], in path: String) throws -> [UInt8]? {
    try Store.open(at: path).read { database in
      let buffer = try ChunkBuffer()
      guard let slot = try ChunkFinder(database).load(holding: Self.digest(digest), into: buffer)
      else { return nil }
      if let problem = buffer.decompress(with: try LZ4FrameDecoder(), check: .digests) {
        throw VMCheckpointError.corrupt(problem)
      }
      return Array(buffer.page(slot))
    }
  }

  private static func digest(_ bytes: [UInt8]) -> PageDigest {
    bytes.withUnsafeBytes { PageDigest(loadingFrom: $0.baseAddress!) }
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
