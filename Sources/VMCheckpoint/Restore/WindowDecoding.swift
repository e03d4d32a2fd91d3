/// The workers' half of a ``StreamRestore``: decodes chunks into windows.
struct WindowDecoding: Sendable {
  let windows: StreamWindows
  let snapshot: SnapshotRow
  let check: PageCheck
  let extentCheck: ExtentCheck
  let clock: StageClock<RestoreStage>

  /// What one thread does with each job.
  func makeWorker() throws(VMCheckpointError) -> ((WindowJob) throws(VMCheckpointError) -> Void) {
    let decoder = try LZ4FrameDecoder()
    let scratch = try ChunkBuffer()
    return { job throws(VMCheckpointError) in
      guard let window = job.window else { return }
      for index in 0..<job.batch.count {
        try place(job.batch.chunks[index], job.batch.uses[index], in: window, scratch, decoder)
      }
      windows.endBatch(window)
    }
  }

  /// Decodes a chunk, and copies its pages to where they belong.
  private func place(
    _ chunk: ChunkBuffer,
    _ extents: [Extent],
    in window: StreamWindows.Window,
    _ scratch: ChunkBuffer,
    _ decoder: LZ4FrameDecoder
  ) throws(VMCheckpointError) {
    for extent in extents {
      if let problem = extentCheck.problem(of: extent, in: chunk) {
        throw FileRestore.damaged([extent], snapshot.title, problem)
      }
    }
    // A chunk whose pages stay together needs no copy.
    if extents.count == 1, extents[0].pfns(in: window).count == chunk.pageCount {
      try decode(chunk, extents, into: window.pages(extents[0].pfns(in: window)), decoder)
      return
    }
    let pages = UnsafeMutableRawBufferPointer(
      rebasing: scratch.pages[..<(chunk.pageCount * Page.byteCount)]
    )
    try decode(chunk, extents, into: pages, decoder)
    for extent in extents {
      let pfns = extent.pfns(in: window)
      let firstSlot = Int(extent.firstSlot) + Int(pfns.lowerBound - extent.firstPFN)
      let slots = (firstSlot * Page.byteCount)..<((firstSlot + pfns.count) * Page.byteCount)
      window.pages(pfns).copyMemory(from: UnsafeRawBufferPointer(rebasing: pages[slots]))
    }
  }

  private func decode(
    _ chunk: ChunkBuffer,
    _ extents: [Extent],
    into pages: UnsafeMutableRawBufferPointer,
    _ decoder: LZ4FrameDecoder
  ) throws(VMCheckpointError) {
    let problem = clock.measure(.decompress, byteCount: pages.count) {
      chunk.decompress(with: decoder, into: pages, check: check)
    }
    if let problem { throw FileRestore.damaged(extents, snapshot.title, problem) }
  }
}
