import GRDB

/// Restores a snapshot's RAM into a sparse file, or several: this thread reads chunks in the order of their
/// rows, workers decode each once and scatter its pages.
struct FileRestore {
  /// A chunk and where its pages go.
  private final class Job: @unchecked Sendable {
    let chunk = ChunkBuffer()
    var extents: [Extent] = []

    /// Guest pages that the extents cover.
    var pageCount: Int { extents.reduce(0) { $0 + Int($1.pageCount) } }
  }

  /// Chunks read in one transaction: some ten milliseconds, during which no writer can commit.
  private static let chunksPerTransaction = 128

  let plan: RestorePlan
  /// The files of the plan's form.
  let outputs: [OutputFile]
  let verifiesPages: Bool
  let clock: StageClock<RestoreStage>
  let control: OperationControl

  /// Writes all pages, then the patches.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; the outputs hold anything then.
  func run(_ database: Database, patches: [RAMPatch]) throws {
    for (output, byteCount) in zip(outputs, plan.form.fileByteCounts) {
      try output.setByteCount(byteCount)
    }
    try outputs[0].requireFreeSpace(
      byteCount: (plan.snapshot.storedPageCount + UInt64(patches.count)) << UInt64(Page.shift)
    )
    for part in plan.form.parts {
      try part.withBytes { bytes throws(VMCheckpointError) in
        try outputs[0].write(bytes, at: part.offset)
      }
    }
    try BackgroundWriteback.run(outputs.map(\.descriptor)) { writeback in
      try writePages(database, writeback)
    }
    for patch in patches {
      guard let place = plan.form.placement.place(of: patch.pfn) else { continue }
      try patch.withBytes { bytes throws(VMCheckpointError) in
        try outputs[place.fileIndex].write(bytes, at: place.fileOffset)
      }
    }
  }

  private func writePages(_ database: Database, _ writeback: BackgroundWriteback) throws {
    let (outputs, placement) = (self.outputs, plan.form.placement)
    let (verifies, clock) = (verifiesPages, clock)
    let title = plan.snapshot.title
    try WorkerPool<Job>.run(
      threadCount: control.threadCount,
      items: (0..<(control.threadCount * 8 + 16)).map { _ in Job() },
      makeWorker: { () throws(VMCheckpointError) in
        let decoder = try LZ4FrameDecoder()
        return { job throws(VMCheckpointError) in
          let byteCount = job.pageCount * Page.byteCount
          var problem = clock.measure(.decompress, byteCount: job.chunk.validPages.count) {
            job.chunk.decompress(with: decoder, verifyingDigests: verifies)
          }
          if problem == nil {
            problem = try clock.measure(.write, byteCount: byteCount) {
              () throws(VMCheckpointError) in
              try Self.scatter(job, to: outputs, placement)
            }
          }
          if let problem { throw Self.damaged(job.extents, title, problem) }
          writeback.note(byteCount: byteCount)
        }
      },
      produce: { pool in try readChunks(database, into: pool) }
    )
  }

  private func readChunks(_ database: Database, into pool: WorkerPool<Job>) throws {
    let reader = try ChunkReader(database)
    var batches = ExtentBatches(snapshot: plan.snapshot)
    var progress = ProgressReporter(
      control,
      phase: "restoring",
      totalByteCount: plan.snapshot.storedPageCount << UInt64(Page.shift)
    )
    var donePageCount: UInt64 = 0
    while let extents = try batches.next(database) {
      var rest = extents[...]
      while !rest.isEmpty {
        try control.cancellation.check()
        try database.inTransaction(.deferred) {
          for _ in 0..<Self.chunksPerTransaction {
            guard let chunkID = rest.first?.chunkID else { break }
            let end = rest.firstIndex { $0.chunkID != chunkID } ?? rest.endIndex
            let job = try pool.takeFree()
            job.extents.removeAll(keepingCapacity: true)
            job.extents.append(contentsOf: rest[..<end])
            rest = rest[end...]
            let start = MonotonicClock.nowSeconds
            let problem = try reader.load(chunkID, into: job.chunk)
            clock.add(
              .read,
              seconds: MonotonicClock.nowSeconds - start,
              byteCount: job.chunk.storedByteCount
            )
            if let problem {
              throw Self.damaged(job.extents, plan.snapshot.title, problem)
            }
            donePageCount += UInt64(job.pageCount)
            pool.submit(job)
          }
          return .commit
        }
        progress.report(completedByteCount: donePageCount << UInt64(Page.shift))
      }
    }
  }

  /// - Returns: What is wrong, if the extents do not fit the chunk or RAM.
  private static func scatter(
    _ job: Job,
    to outputs: [OutputFile],
    _ placement: RAMPlacement
  ) throws(VMCheckpointError) -> String? {
    for extent in job.extents {
      guard extent.endSlot <= job.chunk.pageCount else {
        return "it has \(job.chunk.pageCount) pages, and the extent names \(extent.endSlot)"
      }
      let isRAM = try placement.forEachRun(of: extent) { run throws(VMCheckpointError) in
        let start = (Int(extent.firstSlot) + run.firstPageIndex) * Page.byteCount
        let pages = job.chunk.pages[start..<(start + run.pageCount * Page.byteCount)]
        try outputs[run.fileIndex].write(
          UnsafeRawBufferPointer(rebasing: pages),
          at: run.fileOffset
        )
      }
      guard isRAM else { return "the extent is no RAM" }
    }
    return nil
  }

  /// The error for a chunk that cannot be read, or pages that do not fit.
  static func damaged(
    _ extents: [Extent],
    _ title: String,
    _ problem: String
  ) -> VMCheckpointError {
    let pfn = hexString(extents.first?.firstPFN ?? 0)
    let chunkID = extents.first?.chunkID ?? 0
    return VMCheckpointError(
      .corrupt,
      "\(title) is damaged at PFN \(pfn): chunk \(chunkID): \(problem)",
      hint: "see what else is hurt with: vmckpt verify"
    )
  }
}
