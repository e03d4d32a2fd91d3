/// A format that shows a snapshot in a mount, as files beside those that every snapshot has.
package protocol MountForm: Sendable {
  /// The files of a guest; none when it has not what the format needs. Called in a transaction, and so only small
  /// things are to be read.
  ///
  /// The same files in the same order each time: a file's place in the list is part of its node.
  ///
  /// - Parameter overlays: Those that RAM shows with ``MountedRAM/View/applied``.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`.
  func files(of guest: any RestorableGuest, showing overlays: [Overlay]) throws -> [MountFile]
}

/// A file that a format shows of a snapshot. It never changes.
package struct MountFile: Sendable {
  package enum Contents: Sendable {
    /// Bytes that are made when they are read.
    case bytes(count: Int, load: @Sendable (any RestorableGuest) throws -> [UInt8])
    /// RAM, and what is around it.
    case ram(MountedRAM)
  }

  package var name: String
  package var isExecutable: Bool
  package var contents: Contents

  package init(_ name: String, isExecutable: Bool = false, _ contents: Contents) {
    self.name = name
    self.isExecutable = isExecutable
    self.contents = contents
  }
}

/// A file that holds RAM, in which each byte can be found without the others.
package struct MountedRAM: Sendable {
  /// Which overlays RAM shows.
  package enum View: Sendable {
    case bare
    /// The active overlays, as the guest saw them.
    case applied
    /// The active overlays but for those that the VMM lays over RAM itself.
    case leaving(@Sendable (Overlay) -> Bool)
  }

  /// Bytes at the beginning that are made of RAM, when they are first read.
  package struct Head: Sendable {
    /// The most there are; zeros follow.
    package var byteCount: UInt64
    package var make: @Sendable (SnapshotReader) throws -> [UInt8]

    package init(
      byteCount: UInt64,
      make: @escaping @Sendable (SnapshotReader) throws -> [UInt8]
    ) {
      self.byteCount = byteCount
      self.make = make
    }
  }

  /// What lies at an offset of the file.
  package enum Section {
    case head(end: UInt64)
    case part(RestoredForm.Part)
    case ram(RAMPlacement.Piece)
    /// Zeros.
    case gap(end: UInt64)
  }

  package let byteCount: UInt64
  package let view: View
  package let head: Head?
  /// In ascending order of offset.
  private let pieces: [RAMPlacement.Piece]
  private let parts: [RestoredForm.Part]

  /// - Parameters:
  ///   - form: Where RAM is in its files, and what is around it.
  ///   - fileIndex: Which of these files it is.
  package init(
    _ form: RestoredForm,
    fileIndex: Int = 0,
    view: View = .applied,
    head: Head? = nil
  ) {
    byteCount = form.fileByteCounts[fileIndex]
    pieces = form.placement.pieces.filter { $0.fileIndex == fileIndex }
      .sorted { $0.fileOffset < $1.fileOffset }
    parts = fileIndex == 0 ? form.parts : []
    self.view = view
    self.head = head
  }

  /// - Complexity: O(log *n*) in the number of pieces, and O(*n*) in that of other parts.
  package func section(at offset: UInt64) -> Section {
    if let head, offset < head.byteCount { return .head(end: head.byteCount) }
    var next = byteCount
    for part in parts {
      if part.offset <= offset, offset < part.endOffset { return .part(part) }
      if part.offset > offset { next = min(next, part.offset) }
    }
    var (low, high) = (0, pieces.count)
    while low < high {
      let middle = (low + high) / 2
      if pieces[middle].endFileOffset <= offset { low = middle + 1 } else { high = middle }
    }
    if low < pieces.count {
      if pieces[low].fileOffset <= offset { return .ram(pieces[low]) }
      next = min(next, pieces[low].fileOffset)
    }
    return .gap(end: next)
  }

  /// Where pages of the guest are in the file. What is not in it is left out.
  func places(of pfns: Range<UInt64>) -> [(offset: UInt64, pageCount: UInt64)] {
    pieces.compactMap { piece in
      let found = pfns.clamped(to: piece.firstPFN..<piece.endPFN)
      guard !found.isEmpty else { return nil }
      let offset = piece.fileOffset + (found.lowerBound - piece.firstPFN) << UInt64(Page.shift)
      return (offset, UInt64(found.count))
    }
  }

  /// Copies bytes of the file from `offset` on.
  ///
  /// - Parameters:
  ///   - headBytes: The bytes of ``head``, when they are needed.
  ///   - touch: Called with each run of pages before it is read.
  /// - Precondition: The buffer ends within the file.
  func read(
    from offset: UInt64,
    into buffer: UnsafeMutableRawBufferPointer,
    _ reader: SnapshotReader,
    headBytes: () throws(VMCheckpointError) -> [UInt8],
    touch: (Range<UInt64>) -> Void
  ) throws(VMCheckpointError) {
    let end = offset + UInt64(buffer.count)
    var next = offset
    while next < end {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[Int(next - offset)...])
      switch section(at: next) {
      case .gap(let gapEnd):
        let count = Int(min(gapEnd, end) - next)
        Self.clear(rest, count)
        next += UInt64(count)
      case .part(let part):
        let count = Int(min(part.endOffset, end) - next)
        let first = part.bytes.startIndex + Int(next - part.offset)
        rest.copyBytes(from: part.bytes[first..<(first + count)])
        next += UInt64(count)
      case .head(let headEnd):
        let bytes = try headBytes()
        let count = Int(min(headEnd, end) - next)
        Self.clear(rest, count)
        if next < UInt64(bytes.count) { rest.copyBytes(from: bytes[Int(next)...].prefix(count)) }
        next += UInt64(count)
      case .ram(let piece):
        next += try read(
          piece,
          from: next,
          upTo: min(piece.endFileOffset, end),
          rest,
          reader,
          touch
        )
      }
    }
  }

  private static func clear(_ buffer: UnsafeMutableRawBufferPointer, _ count: Int) {
    UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
      .initializeMemory(as: UInt8.self, repeating: 0)
  }

  /// - Returns: How many bytes were read.
  private func read(
    _ piece: RAMPlacement.Piece,
    from offset: UInt64,
    upTo end: UInt64,
    _ buffer: UnsafeMutableRawBufferPointer,
    _ reader: SnapshotReader,
    _ touch: (Range<UInt64>) -> Void
  ) throws(VMCheckpointError) -> UInt64 {
    let pageSize = UInt64(Page.byteCount)
    let (index, inPage) = (offset - piece.fileOffset).quotientAndRemainder(dividingBy: pageSize)
    let pfn = piece.firstPFN + index
    let whole = inPage == 0 ? (end - offset) / pageSize : 0
    if whole > 0 {
      touch(pfn..<(pfn + whole))
      try reader.read(
        from: PFN(unchecked: pfn),
        into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(whole * pageSize)])
      )
      return whole * pageSize
    }
    let page = try LargeMemory.allocate(byteCount: Page.byteCount)
    defer { LargeMemory.free(page) }
    touch(pfn..<(pfn + 1))
    try reader.read(from: PFN(unchecked: pfn), into: page)
    let count = min(pageSize - inPage, end - offset)
    buffer.copyMemory(
      from: UnsafeRawBufferPointer(rebasing: page[Int(inPage)..<Int(inPage + count)])
    )
    return count
  }

  /// The first offset from `offset` on that is data, or in a hole; the file's end counts as a hole.
  ///
  /// - Returns: `nil` when there is none.
  func seek(from offset: UInt64, forData: Bool, _ reader: SnapshotReader) -> UInt64? {
    guard offset < byteCount else { return nil }
    var next = offset
    while next < byteCount {
      let isData: Bool
      let end: UInt64
      switch section(at: next) {
      case .gap(let gapEnd): (isData, end) = (false, gapEnd)
      case .part(let part): (isData, end) = (true, part.endOffset)
      case .head(let headEnd): (isData, end) = (true, headEnd)
      case .ram(let piece):
        let pfn = piece.firstPFN + (next - piece.fileOffset) >> UInt64(Page.shift)
        let (content, count) = reader.content(at: PFN(unchecked: pfn))
        let endPFN = min(pfn + count, piece.endPFN)
        isData = content == .data
        end = piece.fileOffset + (endPFN - piece.firstPFN) << UInt64(Page.shift)
      }
      if isData == forData { return next }
      next = end
    }
    return forData ? nil : byteCount
  }
}
