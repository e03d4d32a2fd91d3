package import GRDB

/// Restores a snapshot's RAM into a sparse file, or several, from beginning to end.
///
/// This thread reads chunks in the order that a ``RestoreSchedule`` gives. Workers decode each into
/// the windows that it has pages for, and write windows that are complete.
package struct FileRestore {
  /// Chunks and where their pages go.
  private typealias Job = ChunkBatch<RestoreSchedule.Use>

  /// How much RAM is put together at once.
  package struct Window {
    /// 1 MiB: a write costs no less a page when it has more.
    package var pageCapacity = 256
    /// `nil` for what the number of threads needs.
    package var count: Int?

    /// Windows of so many pages each; `count` of them, or as many as the threads need.
    package init(pageCapacity: Int = 256, count: Int? = nil) {
      self.pageCapacity = pageCapacity
      self.count = count
    }
  }

  let plan: RestorePlan
  let form: RestoredForm
  /// The files of the form.
  let outputs: [OutputFile]
  let verifiesPages: Bool
  let clock: StageClock<RestoreStage>
  let control: OperationControl
  private let observer: PageObserver?
  private let window: Window

  /// A restore of what `plan` names into `outputs`, the files of `form`.
  package init(
    plan: RestorePlan,
    form: RestoredForm,
    outputs: [OutputFile],
    verifiesPages: Bool,
    clock: StageClock<RestoreStage>,
    control: OperationControl,
    observer: PageObserver? = nil,
    window: Window = Window()
  ) {
    self.plan = plan
    self.form = form
    self.outputs = outputs
    self.verifiesPages = verifiesPages
    self.clock = clock
    self.control = control
    self.observer = observer
    self.window = window
  }

  /// Writes all pages, then the patches.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; the outputs hold anything then.
  package func run(_ database: Database, patches: [RAMPatch]) throws {
    for (output, byteCount) in zip(outputs, form.fileByteCounts) {
      try output.setByteCount(byteCount)
    }
    try outputs[0].requireFreeSpace(
      byteCount: (plan.snapshot.storedPageCount + UInt64(patches.count)) << UInt64(Page.shift)
    )
    for part in form.parts {
      try part.withBytes { bytes throws(VMCheckpointError) in
        try outputs[0].write(bytes, at: part.offset)
      }
    }
    try BackgroundWriteback.run(outputs.map(\.descriptor)) { writeback in
      try writePages(database, writeback)
    }
    for patch in patches {
      guard let place = form.placement.place(of: patch.pfn) else { continue }
      try patch.withBytes { bytes throws(VMCheckpointError) in
        try outputs[place.fileIndex].write(bytes, at: place.fileOffset)
      }
    }
  }

  private func writePages(_ database: Database, _ writeback: BackgroundWriteback) throws {
    let windows = try RAMWindows(
      count: window.count ?? control.threadCount * 2 + 4,
      pageCapacity: window.pageCapacity
    ) { parts, pages throws(VMCheckpointError) in
      try write(parts, pages, writeback)
    }
    let check = try PageCheck(database, verifyingDigests: verifiesPages)
    let extentCheck = ExtentCheck(check, snapshot: plan.snapshot.uuid)
    try WorkerPool<Job>.run(
      threadCount: control.threadCount,
      items: (0..<(control.threadCount + 3)).map { _ in try Job() },
      makeWorker: { () throws(VMCheckpointError) in
        let decoder = try LZ4FrameDecoder()
        let scratch = try ChunkBuffer()
        return { job throws(VMCheckpointError) in
          for index in 0..<job.count {
            let (chunk, uses) = (job.chunks[index], job.uses[index])
            for use in uses {
              if let problem = extentCheck.problem(of: use.extent, in: chunk) {
                throw damaged([use], problem)
              }
            }
            try place(chunk, uses, in: windows, scratch, decoder, check, writeback)
          }
        }
      },
      onFailure: windows.fail,
      produce: { pool in
        try StoreConnection.readingChunks(database) {
          try readChunks(database, into: pool, windows)
        }
      }
    )
  }

  // MARK: Reading

  private func readChunks(
    _ database: Database,
    into pool: WorkerPool<Job>,
    _ windows: RAMWindows
  ) throws {
    let reader = try ChunkReader(database)
    var batches = ExtentBatches(snapshot: plan.snapshot, comparesChecksums: !verifiesPages)
    var progress = ProgressReporter(
      control,
      phase: "restoring",
      totalByteCount: plan.snapshot.storedPageCount << UInt64(Page.shift)
    )
    var donePageCount: UInt64 = 0
    var windowCount = 0
    while let extents = try batches.next(database) {
      var schedule = RestoreSchedule(
        extents,
        firstWindow: windowCount,
        windowPageCapacity: window.pageCapacity,
        openWindowCount: windows.count
      )
      while !schedule.isAtEnd {
        try control.cancellation.check()
        let job = try pool.takeFree()
        while schedule.hasMoreWindows {
          let isOpen = try windows.open(schedule.nextWindow, waits: schedule.needsWindow) {
            schedule.openWindow(&$0)
          }
          guard isOpen else { break }
        }
        donePageCount += try read(&schedule, reader, into: job, database)
        pool.submit(job)
        progress.report(completedByteCount: donePageCount << UInt64(Page.shift))
      }
      windowCount = schedule.nextWindow
    }
  }

  /// Fills `job`.
  ///
  /// - Returns: How many guest pages it is for.
  private func read(
    _ schedule: inout RestoreSchedule,
    _ reader: ChunkReader,
    into job: Job,
    _ database: Database
  ) throws -> UInt64 {
    var pageCount: UInt64 = 0
    job.removeAll()
    try database.inTransaction(.deferred) {
      while !job.isFull, !schedule.isAtEnd, !schedule.needsWindow {
        let index = job.count
        let chunkID = schedule.nextChunk(&job.uses[index])
        if let problem = try job.load(chunkID, with: reader, clock) {
          throw damaged(job.uses[index], problem)
        }
        pageCount += job.uses[index].reduce(0) { $0 + UInt64($1.extent.pageCount) }
      }
      return .commit
    }
    return pageCount
  }

  // MARK: Placing and writing

  /// Decodes a chunk, whose extents are checked, and puts its pages where they belong.
  private func place(
    _ chunk: ChunkBuffer,
    _ uses: [RestoreSchedule.Use],
    in windows: RAMWindows,
    _ scratch: ChunkBuffer,
    _ decoder: LZ4FrameDecoder,
    _ check: PageCheck,
    _ writeback: BackgroundWriteback
  ) throws(VMCheckpointError) {
    // A chunk whose pages stay together needs no copy.
    if uses.count == 1, Int(uses[0].extent.pageCount) == chunk.pageCount,
      case .window(let number, let firstPage) = uses[0].place
    {
      let pages = windows.pages(number, from: firstPage, count: chunk.pageCount)
      try decode(chunk, uses, into: pages, decoder, check)
      try windows.add(pageCount: chunk.pageCount, to: number)
      return
    }
    let pages = UnsafeMutableRawBufferPointer(
      rebasing: scratch.pages[..<(chunk.pageCount * Page.byteCount)]
    )
    try decode(chunk, uses, into: pages, decoder, check)
    for (extent, place) in uses {
      let slots = (Int(extent.firstSlot) * Page.byteCount)..<(extent.endSlot * Page.byteCount)
      let source = UnsafeRawBufferPointer(rebasing: pages[slots])
      switch place {
      case .window(let number, let firstPage):
        let pageCount = Int(extent.pageCount)
        windows.pages(number, from: firstPage, count: pageCount).copyMemory(from: source)
        try windows.add(pageCount: pageCount, to: number)
      case .file:
        try write([extent], source, writeback)
      }
    }
  }

  private func decode(
    _ chunk: ChunkBuffer,
    _ uses: [RestoreSchedule.Use],
    into pages: UnsafeMutableRawBufferPointer,
    _ decoder: LZ4FrameDecoder,
    _ check: PageCheck
  ) throws(VMCheckpointError) {
    let problem = clock.measure(.decompress, byteCount: pages.count) {
      chunk.decompress(with: decoder, into: pages, check: check)
    }
    if let problem { throw damaged(uses, problem) }
  }

  /// Writes extents whose pages follow each other in `pages`, with one call for each run in the
  /// file.
  private func write(
    _ extents: [Extent],
    _ pages: UnsafeRawBufferPointer,
    _ writeback: BackgroundWriteback
  ) throws(VMCheckpointError) {
    if let observer { Self.show(extents, pages, to: observer) }
    let start = MonotonicClock.nowSeconds
    var writtenByteCount = 0
    var run = (fileIndex: 0, offset: UInt64(0), byteCount: 0)
    func finishRun() throws(VMCheckpointError) {
      let bytes = pages[writtenByteCount..<(writtenByteCount + run.byteCount)]
      try outputs[run.fileIndex].write(UnsafeRawBufferPointer(rebasing: bytes), at: run.offset)
      writtenByteCount += run.byteCount
    }
    for extent in extents {
      let isRAM = try form.placement.forEachRun(of: extent) {
        next throws(VMCheckpointError) in
        if next.fileIndex != run.fileIndex
          || next.fileOffset != run.offset + UInt64(run.byteCount)
        {
          try finishRun()
          run = (next.fileIndex, next.fileOffset, 0)
        }
        run.byteCount += next.pageCount * Page.byteCount
      }
      guard isRAM else { throw damaged([(extent, .file)], "the extent is not RAM") }
    }
    try finishRun()
    clock.add(
      .write,
      seconds: MonotonicClock.nowSeconds - start,
      byteCount: writtenByteCount
    )
    writeback.note(byteCount: writtenByteCount)
  }

  private static func show(
    _ extents: [Extent],
    _ pages: UnsafeRawBufferPointer,
    to observer: PageObserver
  ) {
    var start = 0
    for extent in extents {
      let end = start + Int(extent.pageCount) * Page.byteCount
      observer(extent.firstPFN, UnsafeRawBufferPointer(rebasing: pages[start..<end]))
      start = end
    }
  }

  private func damaged(_ uses: [RestoreSchedule.Use], _ problem: String) -> VMCheckpointError {
    Self.damaged(uses.prefix(1).map(\.extent), plan.snapshot.title, problem)
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
