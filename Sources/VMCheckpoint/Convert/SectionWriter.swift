/// Writes a form to a stream, in order of its offsets, while pages come in ascending order of PFN. What no page
/// came for is zero.
struct SectionWriter {
  private let sink: any FlatRAMSink
  private let byteCount: UInt64
  /// What is not written, or not wholly.
  private var sections: ArraySlice<RestoredForm.Section>
  /// What was written.
  private(set) var offset: UInt64 = 0

  /// A writer of `form`, of which ``isAscending(_:)`` says that it can be written so.
  init(_ form: RestoredForm, to sink: any FlatRAMSink) {
    self.sink = sink
    byteCount = form.byteCount
    sections = form.sections[...]
  }

  /// Whether a form has its RAM in ascending order of PFN, in one file.
  static func isAscending(_ form: RestoredForm) -> Bool {
    let pieces = form.placement.pieces
    return form.fileByteCounts.count == 1
      && zip(pieces, pieces.dropFirst()).allSatisfy { $0.endFileOffset <= $1.fileOffset }
  }

  /// Writes consecutive pages, and what comes before them.
  ///
  /// - Throws: What the sink throws; ``VMCheckpointError`` with the code `corrupt` for a page that the form has no
  ///   place for.
  mutating func write(firstPFN: UInt64, _ pages: UnsafeRawBufferPointer) throws {
    var (pfn, rest) = (firstPFN, pages[...])
    while !rest.isEmpty {
      let piece = try advance(to: pfn)
      try writeZeros(upTo: piece.fileOffset + (pfn - piece.firstPFN) << UInt64(Page.shift))
      let pageCount = min(piece.endPFN - pfn, Page.count(inByteCount: UInt64(rest.count)))
      let byteCount = Int(pageCount) * Page.byteCount
      try write(UnsafeRawBufferPointer(rebasing: rest.prefix(byteCount)))
      rest = rest.dropFirst(byteCount)
      pfn += pageCount
    }
  }

  /// Writes all that comes after the last page.
  mutating func finish() throws {
    while let section = sections.first { try leave(section) }
    try writeZeros(upTo: byteCount)
  }

  /// Writes up to the piece that holds `pfn`.
  private mutating func advance(to pfn: UInt64) throws -> RAMPlacement.Piece {
    while let section = sections.first {
      if case .ram(let piece) = section, pfn < piece.endPFN {
        guard pfn >= piece.firstPFN else { break }
        return piece
      }
      try leave(section)
    }
    throw VMCheckpointError(
      .corrupt,
      "the page at PFN \(hexString(pfn)) is not in the guest's RAM"
    )
  }

  /// Writes what is left of the first section.
  private mutating func leave(_ section: RestoredForm.Section) throws {
    switch section {
    case .ram: try writeZeros(upTo: section.endOffset)
    case .part(let part):
      try writeZeros(upTo: part.offset)
      try part.withBytes(sink.write)
      offset = part.endOffset
    }
    sections.removeFirst()
  }

  private mutating func writeZeros(upTo end: UInt64) throws {
    guard end > offset else { return }
    try sink.writeZeros(byteCount: end - offset)
    offset = end
  }

  private mutating func write(_ bytes: UnsafeRawBufferPointer) throws {
    try sink.write(bytes)
    offset += UInt64(bytes.count)
  }
}
