import GRDB

/// Restores a snapshot to a pipe, in order of file offsets, zero pages included.
///
/// A stream cannot be written out of order, so RAM is put together in windows: a chunk whose pages
/// lie far apart is decoded for each window that it has pages in.
struct StreamRestore {
  /// 16 MiB: memory against how often scattered chunks are decoded.
  private static let windowPageCount: UInt64 = 4096

  let plan: RestorePlan
  let sink: any FlatRAMSink
  let verifiesPages: Bool
  let clock: StageClock<RestoreStage>
  let control: OperationControl

  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; part of RAM may be written then.
  func run(_ database: Database, patches: [RAMPatch]) throws {
    let window = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Int(Self.windowPageCount) * Page.byteCount,
      alignment: Page.byteCount
    )
    defer { window.deallocate() }
    var loader = try WindowLoader(
      database,
      snapshot: plan.snapshot,
      verifiesPages: verifiesPages,
      clock: clock
    )
    var progress = ProgressReporter(
      control,
      phase: "restoring",
      totalByteCount: plan.form.byteCount
    )
    var offset: UInt64 = 0
    for section in plan.form.sections {
      try writeZeros(byteCount: section.offset - offset, from: window)
      offset = section.endOffset
      guard case .ram(let piece) = section else {
        if case .part(let part) = section { try part.withBytes(sink.write) }
        continue
      }
      var pageIndex: UInt64 = 0
      while pageIndex < piece.pageCount {
        let count = min(Self.windowPageCount, piece.pageCount - pageIndex)
        let bytes = UnsafeMutableRawBufferPointer(
          rebasing: window[..<(Int(count) * Page.byteCount)]
        )
        let firstPFN = piece.firstPFN + pageIndex
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        try loader.load(firstPFN: firstPFN, pageCount: count, into: bytes)
        Self.apply(patches, firstPFN: firstPFN, pageCount: count, to: bytes)
        try clock.measure(.write, byteCount: bytes.count) {
          try sink.write(UnsafeRawBufferPointer(bytes))
        }
        pageIndex += count
        progress.report(
          completedByteCount: piece.fileOffset + pageIndex << UInt64(Page.shift)
        )
      }
    }
    try writeZeros(byteCount: plan.form.byteCount - offset, from: window)
    try loader.checkComplete(database)
  }

  private static func apply(
    _ patches: [RAMPatch],
    firstPFN: UInt64,
    pageCount: UInt64,
    to bytes: UnsafeMutableRawBufferPointer
  ) {
    for patch in patches {
      let pfn = patch.pfn.rawValue
      guard pfn >= firstPFN, pfn < firstPFN + pageCount else { continue }
      let start = Int(pfn - firstPFN) * Page.byteCount
      patch.withBytes { source in
        UnsafeMutableRawBufferPointer(rebasing: bytes[start...]).copyMemory(from: source)
      }
    }
  }

  private func writeZeros(
    byteCount: UInt64,
    from window: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) {
    guard byteCount > 0 else { return }
    window.initializeMemory(as: UInt8.self, repeating: 0)
    var rest = byteCount
    while rest > 0 {
      let count = min(rest, UInt64(window.count))
      try sink.write(UnsafeRawBufferPointer(rebasing: window[..<Int(count)]))
      rest -= count
    }
  }
}

/// Puts together consecutive pages of a snapshot.
private struct WindowLoader {
  private let database: Database
  private let snapshot: SnapshotRow
  private let check: PageCheck
  private let clock: StageClock<RestoreStage>
  private let reader: ChunkReader
  private let decoder: LZ4FrameDecoder
  private let chunk = ChunkBuffer()
  private var extentReader: ExtentReader
  private var extents: [Extent] = []
  private var pageCount: UInt64 = 0

  init(
    _ database: Database,
    snapshot: SnapshotRow,
    verifiesPages: Bool,
    clock: StageClock<RestoreStage>
  ) throws {
    self.clock = clock
    self.database = database
    self.snapshot = snapshot
    check = PageCheck(database, verifyingDigests: verifiesPages)
    reader = try ChunkReader(database)
    decoder = try LZ4FrameDecoder()
    extentReader = try ExtentReader(database, snapshotID: snapshot.id)
  }

  /// Copies the pages that are not zero into `bytes`, which is all zero, in a short transaction.
  mutating func load(
    firstPFN: UInt64,
    pageCount: UInt64,
    into bytes: UnsafeMutableRawBufferPointer
  ) throws {
    try database.inTransaction(.deferred) {
      try readExtents(firstPFN: firstPFN, endPFN: firstPFN + pageCount)
      for extent in extents {
        if extent.chunkID != chunk.chunkID {
          if let problem = try load(extent.chunkID) {
            throw FileRestore.damaged([extent], snapshot.title, problem)
          }
        }
        guard extent.endSlot <= chunk.pageCount else {
          throw FileRestore.damaged([extent], snapshot.title, "it has too few pages")
        }
        copy(extent, firstPFN: firstPFN, endPFN: firstPFN + pageCount, to: bytes)
      }
      return .commit
    }
  }

  private func load(_ chunkID: Int64) throws -> String? {
    let start = MonotonicClock.nowSeconds
    let problem = try reader.load(chunkID, into: chunk)
    clock.add(
      .read,
      seconds: MonotonicClock.nowSeconds - start,
      byteCount: chunk.storedByteCount
    )
    if let problem { return problem }
    return clock.measure(.decompress, byteCount: chunk.validPages.count) {
      chunk.decompress(with: decoder, check: check)
    }
  }

  /// - Throws: ``VMCheckpointError`` when not all of the snapshot's pages came by.
  func checkComplete(_ database: Database) throws {
    guard pageCount != snapshot.storedPageCount else { return }
    guard try SnapshotCatalog.fetch(id: snapshot.id, in: database) != nil else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
    throw VMCheckpointError(
      .corrupt,
      "\(snapshot.title) is damaged: it has pages that are no RAM, or lacks some",
      hint: "see what is hurt with: vmckpt verify"
    )
  }

  private mutating func readExtents(firstPFN: UInt64, endPFN: UInt64) throws {
    extents.removeAll(keepingCapacity: true)
    // An extent that begins up to 15 pages before may reach in.
    let reach = UInt64(StoreFormat.chunkPageCapacity - 1)
    extentReader.rewind(
      toPFN: firstPFN < reach ? 0 : firstPFN - reach,
      through: endPFN - 1
    )
    while let extent = try extentReader.next() {
      if extent.endPFN > firstPFN { extents.append(extent) }
    }
    extents.sort { ($0.chunkID, $0.firstPFN) < ($1.chunkID, $1.firstPFN) }
  }

  private mutating func copy(
    _ extent: Extent,
    firstPFN: UInt64,
    endPFN: UInt64,
    to bytes: UnsafeMutableRawBufferPointer
  ) {
    let start = max(extent.firstPFN, firstPFN)
    let count = Int(min(extent.endPFN, endPFN) - start)
    let slot = Int(extent.firstSlot) + Int(start - extent.firstPFN)
    let source = chunk.pages[(slot * Page.byteCount)..<((slot + count) * Page.byteCount)]
    let target = Int(start - firstPFN) * Page.byteCount
    UnsafeMutableRawBufferPointer(rebasing: bytes[target...])
      .copyMemory(from: UnsafeRawBufferPointer(rebasing: source))
    pageCount += UInt64(count)
  }
}
