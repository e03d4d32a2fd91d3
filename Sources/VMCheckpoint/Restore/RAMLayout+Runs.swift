extension RAMLayout {
  /// A part of an extent that stands in one piece in a flat RAM file.
  struct FileRun {
    var fileOffset: UInt64
    /// Counted from the extent's first slot.
    var firstPageIndex: Int
    var pageCount: Int
  }

  /// Calls `body` for each piece of `extent` in a flat RAM file: one, unless the extent crosses
  /// from one region to another that follows it in guest-physical addresses.
  ///
  /// - Returns: `false` when part of the extent is no RAM.
  func forEachFileRun<Failure: Error>(
    of extent: Extent,
    _ body: (FileRun) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    var index = 0
    while index < Int(extent.pageCount) {
      let pfn = extent.firstPFN + UInt64(index)
      guard let region = region(holding: PFN(unchecked: pfn)) else { return false }
      let offset = pfn - region.firstPFN.rawValue
      let count = min(UInt64(Int(extent.pageCount) - index), region.pageCount - offset)
      try body(
        FileRun(
          fileOffset: region.fileOffset + offset << UInt64(Page.shift),
          firstPageIndex: index,
          pageCount: Int(count)
        )
      )
      index += Int(count)
    }
    return true
  }
}
