import GRDB

/// Restores a snapshot to a pipe, in order of file offsets, zero pages included.
///
/// A stream cannot be written out of order, so RAM is put together in windows. This thread reads the
/// chunks of one, and while workers decode those it writes the window before. A chunk whose pages lie
/// far apart is decoded for each window that it has pages in.
struct StreamRestore {
  /// 16 MiB: memory against how often scattered chunks are decoded.
  private static let windowPageCount: UInt64 = 4096

  let plan: RestorePlan
  let form: RestoredForm
  let sink: any FlatRAMSink
  let verifiesPages: Bool
  let clock: StageClock<RestoreStage>
  let control: OperationControl

  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; part of RAM may be written then.
  func run(_ database: Database, patches: [RAMPatch]) throws {
    let windows = try StreamWindows(count: 2, pageCapacity: Int(Self.windowPageCount))
    let check = try PageCheck(database, verifyingDigests: verifiesPages)
    let decoding = WindowDecoding(
      windows: windows,
      snapshot: plan.snapshot,
      check: check,
      extentCheck: ExtentCheck(check, snapshot: plan.snapshot.uuid),
      clock: clock
    )
    try WorkerPool<WindowJob>.run(
      threadCount: control.threadCount,
      items: (0..<(control.threadCount + 3)).map { _ in try WindowJob() },
      makeWorker: decoding.makeWorker,
      onFailure: windows.fail,
      produce: { pool in
        try StoreConnection.readingChunks(database) {
          var loader = try WindowLoader(
            database,
            snapshot: plan.snapshot,
            pool: pool,
            windows: windows,
            clock: clock,
            cancellation: control.cancellation
          )
          try write(patches, windows) { try loader.load($0) }
          try loader.checkComplete(comparesChecksums: !verifiesPages)
        }
      }
    )
  }

  /// Writes all sections.
  ///
  /// - Parameter load: Lets workers fill a window.
  private func write(
    _ patches: [RAMPatch],
    _ windows: StreamWindows,
    load: (StreamWindows.Window) throws -> Void
  ) throws {
    var progress = ProgressReporter(
      control,
      phase: "restoring",
      totalByteCount: form.byteCount
    )
    var offset: UInt64 = 0
    var loaded: (window: StreamWindows.Window, endOffset: UInt64)?
    func writeLoaded() throws {
      guard let (window, endOffset) = loaded else { return }
      loaded = nil
      try windows.awaitFilled(window)
      Self.apply(patches, to: window)
      try clock.measure(.write, byteCount: window.bytes.count) {
        try sink.write(UnsafeRawBufferPointer(window.bytes))
      }
      progress.report(completedByteCount: endOffset)
    }
    for section in form.sections {
      if section.offset > offset {
        try writeLoaded()
        try sink.writeZeros(byteCount: section.offset - offset)
      }
      offset = section.endOffset
      guard case .ram(let piece) = section else {
        try writeLoaded()
        if case .part(let part) = section { try part.withBytes(sink.write) }
        continue
      }
      var pageIndex: UInt64 = 0
      while pageIndex < piece.pageCount {
        let count = min(Self.windowPageCount, piece.pageCount - pageIndex)
        let window = windows.open(firstPFN: piece.firstPFN + pageIndex, pageCount: Int(count))
        pageIndex += count
        do {
          try load(window)
        } catch {
          // A reader who rescues what is left gets the pages that are whole.
          try? writeLoaded()
          throw error
        }
        try writeLoaded()
        loaded = (window, piece.fileOffset + pageIndex << UInt64(Page.shift))
      }
    }
    try writeLoaded()
    try sink.writeZeros(byteCount: form.byteCount - offset)
  }

  private static func apply(_ patches: [RAMPatch], to window: StreamWindows.Window) {
    for patch in patches {
      let pfn = patch.pfn.rawValue
      guard (window.firstPFN..<window.endPFN).contains(pfn) else { continue }
      patch.withBytes { window.pages(pfn..<(pfn + 1)).copyMemory(from: $0) }
    }
  }
}
