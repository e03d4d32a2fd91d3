import Glibc
import SystemPackage

/// RAM that was read from its source once, as it was captured, in a temporary file without a name.
///
/// Windows are put down one after the other, as they come, with holes for pages of zeros.
final class SpooledRAM {
  let layout: RAMLayout
  private let files: OpenRAMFiles
  private let placement: RAMPlacement

  /// Reads all that `reader` gives.
  ///
  /// - Throws: ``VMCheckpointError``: what the reader throws; `cannotCreate` or `inputOutput` when the file cannot be
  ///   made or written.
  init(
    _ reader: any RAMReader,
    in directory: String,
    clock: StageClock<ConvertStage>,
    control: OperationControl
  ) throws {
    let spool = try SpooledForm(byteCount: 0, in: directory)
    var pieces: [RAMPlacement.Piece] = []
    var endOffset: UInt64 = 0
    var progress = ProgressReporter(
      control,
      phase: "reading",
      totalByteCount: reader.totalByteCount
    )
    try WindowPass.run(control) { window throws(VMCheckpointError) in
      let start = MonotonicClock.nowSeconds
      guard try reader.readWindow(into: window) else { return false }
      let byteCount = window.pageCount * Page.byteCount
      clock.add(.read, seconds: MonotonicClock.nowSeconds - start, byteCount: byteCount)
      window.findZeroPages()
      return true
    } _: { window in
      try window.forEachNonzeroRun { firstPFN, pages in
        try spool.write(pages, at: endOffset + (firstPFN - window.firstPFN) << UInt64(Page.shift))
      }
      let pageCount = UInt64(window.pageCount)
      if let last = pieces.last, last.endPFN == window.firstPFN {
        pieces[pieces.count - 1].pageCount += pageCount
      } else {
        pieces.append(
          .init(firstPFN: window.firstPFN, pageCount: pageCount, fileOffset: endOffset)
        )
      }
      endOffset += pageCount << UInt64(Page.shift)
      progress.report(completedByteCount: window.sourceEndOffset)
    }
    try spool.setByteCount(endOffset)
    layout = try reader.finalLayout()
    placement = RAMPlacement(pieces: Self.split(pieces, at: layout))
    files = OpenRAMFiles([.init(descriptor: try spool.takeDescriptor(), path: directory)])
  }

  /// The parts of `pieces` in each region: no window may cross from one into another.
  private static func split(
    _ pieces: [RAMPlacement.Piece],
    at layout: RAMLayout
  ) -> [RAMPlacement.Piece] {
    var parts: [RAMPlacement.Piece] = []
    var regions = layout.regions[...]
    for piece in pieces {
      while let region = regions.first {
        let first = max(region.firstPFN.rawValue, piece.firstPFN)
        let regionEnd = region.firstPFN.rawValue + region.pageCount
        let end = min(regionEnd, piece.endPFN)
        if first < end {
          let offset = piece.fileOffset + (first - piece.firstPFN) << UInt64(Page.shift)
          parts.append(.init(firstPFN: first, pageCount: end - first, fileOffset: offset))
        }
        guard regionEnd <= piece.endPFN else { break }
        regions.removeFirst()
      }
    }
    return parts
  }

  /// Makes a reader of it.
  func makeReader(keptPFNs: [UInt64]) -> any RAMReader {
    FileRAMReader(
      files,
      layout: layout,
      placement: placement,
      keptPFNs: Set(keptPFNs).sorted()
    )
  }

  /// The page at `pfn`; `nil` where the source had nothing.
  func page(at pfn: PFN) throws(VMCheckpointError) -> PageContents? {
    try files.page(at: pfn, placement)
  }
}

/// A temporary file without a name that is written at any place.
final class SpooledForm {
  private let directory: String
  private var descriptor: FileDescriptor?
  private var byteCount: UInt64

  /// Makes one of `byteCount` bytes, all zero.
  ///
  /// - Throws: ``VMCheckpointError`` as ``SpoolFile/make(in:)``.
  init(byteCount: UInt64, in directory: String) throws(VMCheckpointError) {
    self.directory = directory
    self.byteCount = byteCount
    descriptor = try SpoolFile.make(in: directory)
    try setByteCount(byteCount)
  }

  deinit { try? descriptor?.close() }

  /// Makes it this large.
  func setByteCount(_ byteCount: UInt64) throws(VMCheckpointError) {
    self.byteCount = byteCount
    guard let descriptor, ftruncate(descriptor.rawValue, off_t(byteCount)) == 0 else {
      throw failure("write", Errno(rawValue: errno))
    }
  }

  /// Writes all of `bytes` at `offset`.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(VMCheckpointError) {
    guard let descriptor else { throw failure("write", .badFileDescriptor) }
    do throws(Errno) {
      try FileIO.write(bytes, to: descriptor, at: offset)
    } catch {
      throw failure("write", error)
    }
  }

  /// Writes all of it to `sink`, from its beginning to its end.
  func copy(to sink: any FlatRAMSink, _ cancellation: CancellationFlag) throws(VMCheckpointError) {
    guard let descriptor else { throw failure("read", .badFileDescriptor) }
    let buffer = try LargeMemory.allocate(byteCount: 1 << 20)
    defer { LargeMemory.free(buffer) }
    var offset: UInt64 = 0
    while offset < byteCount {
      try cancellation.check()
      let wanted = Int(min(UInt64(buffer.count), byteCount - offset))
      let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
      let count: Int
      do throws(Errno) {
        count = try FileIO.read(into: room, from: descriptor, at: offset)
      } catch {
        throw failure("read", error)
      }
      guard count == wanted else { throw failure("read", .ioError) }
      try sink.write(UnsafeRawBufferPointer(room))
      offset += UInt64(wanted)
    }
  }

  /// The descriptor, which becomes the caller's.
  func takeDescriptor() throws(VMCheckpointError) -> FileDescriptor {
    guard let taken = descriptor else { throw failure("read", .badFileDescriptor) }
    descriptor = nil
    return taken
  }

  private func failure(_ verb: String, _ error: Errno) -> VMCheckpointError {
    SpoolFile.failure(verb, in: directory, error, thing: "the guest's RAM")
  }
}
