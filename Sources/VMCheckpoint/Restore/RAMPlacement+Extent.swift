extension RAMPlacement {
  /// A part of consecutive pages in one piece.
  struct Run {
    var fileIndex: Int
    var fileOffset: UInt64
    /// Counted from the first of the pages.
    var firstPageIndex: Int
    var pageCount: Int
  }

  /// Calls `body` for each run of `extent` in the files: one, unless the extent crosses from one
  /// piece to another that follows it in guest-physical addresses.
  ///
  /// - Returns: `false` when part of the extent is not RAM.
  func forEachRun<Failure: Error>(
    of extent: Extent,
    _ body: (Run) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    try forEachRun(firstPFN: extent.firstPFN, pageCount: Int(extent.pageCount), body)
  }

  /// As ``forEachRun(of:_:)``, for any consecutive pages.
  func forEachRun<Failure: Error>(
    firstPFN: UInt64,
    pageCount: Int,
    _ body: (Run) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    var index = 0
    while index < pageCount {
      let pfn = firstPFN + UInt64(index)
      guard let piece = piece(holding: pfn) else { return false }
      let offset = pfn - piece.firstPFN
      let count = min(UInt64(pageCount - index), piece.pageCount - offset)
      try body(
        Run(
          fileIndex: piece.fileIndex,
          fileOffset: piece.fileOffset + offset << UInt64(Page.shift),
          firstPageIndex: index,
          pageCount: Int(count)
        )
      )
      index += Int(count)
    }
    return true
  }
}
