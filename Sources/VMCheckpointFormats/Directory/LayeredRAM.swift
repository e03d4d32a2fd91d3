import CLinux
import Glibc
import Synchronization
import SystemPackage
import VMCheckpoint

/// RAM in files that are laid over each other: a page is in the uppermost file that has data there. A hole of a
/// file is what is beneath, and beneath all files is a snapshot, or zeros.
///
/// What is a hole is what the file system says (SEEK_DATA, SEEK_HOLE). Whether bytes are zero never counts.
final class LayeredRAM: Sendable {
  /// Where pages come from.
  enum Origin: Hashable {
    /// An index of the files.
    case file(Int)
    case snapshot
    case zeros
  }

  /// Consecutive pages of one origin.
  struct Run: Hashable {
    var origin: Origin
    var firstPFN: UInt64
    var pageCount: UInt64

    var endPFN: UInt64 { firstPFN + pageCount }
  }

  /// Where it is in each of the files.
  let layout: RAMLayout
  /// The uppermost comes first.
  private let files: OpenRAMFiles
  /// What is beneath the files.
  private let base: SnapshotReader?

  init(_ layout: RAMLayout, files: OpenRAMFiles, base: SnapshotReader?) {
    self.layout = layout
    self.files = files
    self.base = base
  }

  /// Pages from `pfn` on that have one origin. More of the same may follow.
  ///
  /// - Parameter endPFN: In the region of `pfn`.
  /// - Throws: ``VMCheckpointError``: `invalidData` when data begins or ends inside a page.
  func run(at pfn: UInt64, upTo endPFN: UInt64) throws(VMCheckpointError) -> Run {
    guard let offset = layout.fileOffset(of: PFN(unchecked: pfn)) else {
      preconditionFailure("the page is RAM")
    }
    var endOffset = offset + (endPFN - pfn) << UInt64(Page.shift)
    func run(_ origin: Origin, upTo end: UInt64) -> Run {
      Run(
        origin: origin,
        firstPFN: pfn,
        pageCount: (min(end, endOffset) - offset) >> UInt64(Page.shift)
      )
    }
    for (index, file) in files.files.enumerated() {
      guard let data = try Self.seek(file, from: offset, clinux_seek_data, below: endOffset) else {
        continue
      }
      if data > offset {
        endOffset = data
      } else {
        let hole = try Self.seek(file, from: offset, clinux_seek_hole, below: endOffset)
        return run(.file(index), upTo: hole ?? endOffset)
      }
    }
    guard let base else { return run(.zeros, upTo: endOffset) }
    let (content, pageCount) = base.content(at: PFN(unchecked: pfn))
    // Both counts are below 2⁵².
    return run(
      content == .data ? .snapshot : .zeros,
      upTo: offset + min(pageCount, endPFN - pfn) << UInt64(Page.shift)
    )
  }

  /// The next offset from `start` on that is data, or in a hole; `nil` when it is not before `end`.
  private static func seek(
    _ file: OpenRAMFiles.File,
    from start: UInt64,
    _ kind: Int32,
    below end: UInt64
  ) throws(VMCheckpointError) -> UInt64? {
    let found = lseek(file.descriptor.rawValue, off_t(start), kind)
    guard found >= 0 else {
      let code = Errno(rawValue: errno)
      // Nothing but a hole follows, up to the end.
      if code == .noSuchAddressOrDevice { return nil }
      throw VMCheckpointError(
        .inputOutput,
        "cannot look for holes in memory file \(quotedName(file.path)): \(code)"
      )
    }
    guard UInt64(found) < end else { return nil }
    guard UInt64(found) % UInt64(Page.byteCount) == 0 else {
      throw .invalidData(
        "memory file \(quotedName(file.path)) has a hole that begins or ends inside a page, at offset "
          + "\(hexString(UInt64(found)))",
        hint: "a diff that was written to this file system, or copied with its holes, has none"
      )
    }
    return UInt64(found)
  }

  /// Fills `buffer` with the pages of a run.
  func read(_ run: Run, into buffer: UnsafeMutableRawBufferPointer) throws(VMCheckpointError) {
    let pfn = PFN(unchecked: run.firstPFN)
    switch run.origin {
    case .zeros: buffer.initializeMemory(as: UInt8.self, repeating: 0)
    case .snapshot:
      guard let base else { preconditionFailure("a run of a snapshot that is not there") }
      try base.read(from: pfn, into: buffer)
    case .file(let index):
      let file = files.files[index]
      guard let offset = layout.fileOffset(of: pfn) else {
        preconditionFailure("the page is RAM")
      }
      let count: Int
      do throws(Errno) {
        count = try FileIO.read(into: buffer, from: file.descriptor, at: offset)
      } catch {
        throw VMCheckpointError(
          .inputOutput,
          "cannot read memory file \(quotedName(file.path)) at offset \(hexString(offset)): \(error)"
        )
      }
      guard count == buffer.count else {
        throw VMCheckpointError(
          .inputOutput,
          "memory file \(quotedName(file.path)) shrank while it was being saved"
        )
      }
    }
  }

  /// The page at `pfn`; `nil` outside RAM.
  func page(at pfn: PFN) throws(VMCheckpointError) -> PageContents? {
    guard layout.contains(pfn) else { return nil }
    let run = try run(at: pfn.rawValue, upTo: pfn.rawValue + 1)
    let memory = try LargeMemory.allocate(byteCount: Page.byteCount)
    defer { LargeMemory.free(memory) }
    try read(run, into: memory)
    return PageContents(copying: UnsafeRawBufferPointer(memory))
  }

  /// Whether all pages are zero. Reads what is not a hole, up to the first page that is not zero.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cancelled`, among others.
  func isZero(_ cancellation: CancellationFlag) throws(VMCheckpointError) -> Bool {
    let buffer = try LargeMemory.allocate(byteCount: RAMWindow.pageCapacity * Page.byteCount)
    defer { LargeMemory.free(buffer) }
    for region in layout.regions {
      var next = region.firstPFN.rawValue
      let end = next + region.pageCount
      while next < end {
        try cancellation.check()
        var run = try run(at: next, upTo: end)
        next = run.endPFN
        guard run.origin != .zeros else { continue }
        run.pageCount = min(run.pageCount, UInt64(RAMWindow.pageCapacity))
        next = run.endPFN
        let pages = UnsafeMutableRawBufferPointer(
          rebasing: buffer[..<(Int(run.pageCount) * Page.byteCount)]
        )
        try read(run, into: pages)
        for offset in stride(from: 0, to: pages.count, by: Page.byteCount)
        where !ZeroPage.isZero(pages.baseAddress! + offset) {
          return false
        }
      }
    }
    return true
  }

  /// The first page of RAM that no file has.
  func firstHole() throws(VMCheckpointError) -> PFN? {
    for region in layout.regions {
      var next = region.firstPFN.rawValue
      let end = next + region.pageCount
      while next < end {
        let run = try run(at: next, upTo: end)
        guard case .file = run.origin else { return PFN(unchecked: next) }
        next = run.endPFN
      }
    }
    return nil
  }
}

/// Reads layered RAM. What is zero in all layers is skipped.
final class LayeredRAMReader: RAMReader {
  private struct Position {
    var region = 0
    /// Into the region.
    var pageIndex: UInt64 = 0
    var sequence = 0
    /// The sum of the regions before this one.
    var donePageCount: UInt64 = 0
    var keptIndex = 0
  }

  private let ram: LayeredRAM
  /// PFNs that must be visited even where all is zero, ascending.
  private let keptPFNs: [UInt64]
  private let position = Mutex(Position())

  let totalByteCount: UInt64?

  init(_ ram: LayeredRAM, keptPFNs: [UInt64]) {
    self.ram = ram
    self.keptPFNs = keptPFNs
    totalByteCount = ram.layout.byteCount
  }

  func finalLayout() -> RAMLayout { ram.layout }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    let runs = try position.withLock { position throws(VMCheckpointError) in
      try claim(&position, window)
    }
    guard let runs else { return false }
    for run in runs {
      let start = Int(run.firstPFN - window.firstPFN) * Page.byteCount
      let end = start + Int(run.pageCount) * Page.byteCount
      try ram.read(run, into: UnsafeMutableRawBufferPointer(rebasing: window.bytes[start..<end]))
    }
    return true
  }

  /// Sets the window's PFNs; returns what it consists of, or `nil` at the end.
  private func claim(
    _ position: inout Position,
    _ window: RAMWindow
  ) throws(VMCheckpointError) -> [LayeredRAM.Run]? {
    let regions = ram.layout.regions
    while position.region < regions.count {
      let region = regions[position.region]
      let first = region.firstPFN.rawValue
      let regionEnd = first + region.pageCount
      if let pfn = try nextPFN(&position, from: first + position.pageIndex, upTo: regionEnd) {
        let end = min(pfn + UInt64(RAMWindow.pageCapacity), regionEnd)
        var runs: [LayeredRAM.Run] = []
        var next = pfn
        while next < end {
          let run = try ram.run(at: next, upTo: end)
          runs.append(run)
          next = run.endPFN
        }
        window.firstPFN = pfn
        window.pageCount = Int(end - pfn)
        window.sequence = position.sequence
        position.sequence += 1
        position.pageIndex = end - first
        window.sourceEndOffset =
          (position.donePageCount + position.pageIndex) << UInt64(Page.shift)
        return runs
      }
      position.region += 1
      position.donePageCount += region.pageCount
      position.pageIndex = 0
    }
    return nil
  }

  /// The next page that is not zero in all layers, or must be visited anyway.
  private func nextPFN(
    _ position: inout Position,
    from start: UInt64,
    upTo end: UInt64
  ) throws(VMCheckpointError) -> UInt64? {
    var next = start
    while next < end {
      while position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < next {
        position.keptIndex += 1
      }
      let run = try ram.run(at: next, upTo: end)
      guard run.origin == .zeros else { return next }
      if position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < run.endPFN {
        return keptPFNs[position.keptIndex]
      }
      next = run.endPFN
    }
    return nil
  }
}
