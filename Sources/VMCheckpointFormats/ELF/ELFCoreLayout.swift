import VMCheckpoint

/// An ELF core that is written: a header, program headers, notes, and from a multiple of 4096 on RAM, each region
/// in a load of its own.
///
/// The notes' program header comes first, even if there are no notes: crash wants it there and volatility3 takes
/// it. `p_filesz` is `p_memsz`, or volatility3 would skip the load: zero pages are holes. RAM is in ascending
/// order of GPA, and so the core can be read from a pipe.
struct ELFCoreLayout {
  let placement: RAMPlacement
  let byteCount: UInt64
  private let regions: [MemoryRegion]
  private let notesOffset: Int
  private let ramOffset: UInt64

  /// - Parameters:
  ///   - noteByteCount: The most that the notes take.
  /// - Precondition: There are no more regions than ``RAMLayout/maximumRegionCount``, so that the program
  ///   headers' 16-bit count holds them.
  init(_ layout: RAMLayout, noteByteCount: Int) {
    regions = layout.regions
    let width = ELFHeader.Width.bits64
    // A multiple of 8, as notes may be aligned.
    notesOffset = width.headerByteCount + width.programHeaderByteCount * (regions.count + 1)
    let page = Page.byteCount
    let ramOffset = UInt64((notesOffset + noteByteCount + page - 1) / page * page)
    self.ramOffset = ramOffset
    var offset = ramOffset
    var pieces: [RAMPlacement.Piece] = []
    for region in regions {
      pieces.append(
        .init(
          firstPFN: region.firstPFN.rawValue,
          pageCount: region.pageCount,
          fileOffset: offset
        )
      )
      offset += region.byteCount
    }
    placement = RAMPlacement(pieces: pieces)
    byteCount = offset
  }

  /// All that comes before RAM.
  ///
  /// - Precondition: The notes take no more than was said.
  func head(_ notes: ELFNotes) -> [UInt8] {
    precondition(notesOffset + notes.bytes.count <= ramOffset)
    var bytes =
      ELFHeader(
        machine: notes.machine,
        programHeaderCount: UInt16(regions.count + 1)
      ).encoded
    notes.programHeader(fileOffset: UInt64(notesOffset)).append(to: &bytes)
    for (region, piece) in zip(regions, placement.pieces) {
      ELFProgramHeader(
        type: ELFProgramHeader.Kind.load,
        // Readable, writable, executable.
        flags: 7,
        fileOffset: piece.fileOffset,
        address: region.gpa,
        byteCount: region.byteCount,
        alignment: 0
      ).append(to: &bytes)
    }
    return bytes + notes.bytes
  }

  /// The core with these notes.
  func form(_ notes: ELFNotes) -> RestoredForm {
    RestoredForm(
      placement: placement,
      parts: [RestoredForm.Part(offset: 0, bytes: head(notes)[...])],
      byteCount: byteCount
    )
  }

  /// The core without what comes before RAM.
  var formWithoutHead: RestoredForm {
    RestoredForm(placement: placement, parts: [], byteCount: byteCount)
  }
}
