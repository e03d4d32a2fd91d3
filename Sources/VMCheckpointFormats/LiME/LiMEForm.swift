import VMCheckpoint

/// A capture of LiME: a range for each memory region, in ascending order of GPA, with zero pages in it as holes.
///
/// A page that is left out would be one that cannot be read, and not one of zeros.
struct LiMEForm: RestorationForm {
  let name = "lime"

  func plan(_ guest: any RestorableGuest) -> any RestorationWriter {
    Self.form(of: guest.layout)
  }

  /// Where headers and RAM are.
  static func form(of layout: RAMLayout) -> RestoredForm {
    var parts: [RestoredForm.Part] = []
    var pieces: [RAMPlacement.Piece] = []
    var offset: UInt64 = 0
    for region in layout.regions {
      let header = RangeHeader.encodedLiME(region)
      parts.append(.init(offset: offset, bytes: header[...]))
      offset += UInt64(header.count)
      pieces.append(
        .init(firstPFN: region.firstPFN.rawValue, pageCount: region.pageCount, fileOffset: offset)
      )
      offset += region.byteCount
    }
    return RestoredForm(placement: RAMPlacement(pieces: pieces), parts: parts, byteCount: offset)
  }
}
