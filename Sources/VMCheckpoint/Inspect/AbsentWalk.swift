/// Puts absent pages between pages that come in ascending order.
struct AbsentWalk {
  private var runs: ArraySlice<Range<UInt64>>
  private var next: UInt64 = 0

  init(_ pages: AbsentPages) {
    runs = pages.runs[...]
  }

  /// Calls `visit` for each absent page up to `pfn`, and for `pfn` itself where it is absent, once.
  ///
  /// - Returns: Whether `pfn` is not absent.
  /// - Complexity: O(*n*) in the number of absent pages, over all calls.
  mutating func skip(to pfn: UInt64, _ visit: (UInt64) -> Void) -> Bool {
    while let run = runs.first, run.lowerBound <= pfn {
      var page = max(next, run.lowerBound)
      while page < run.upperBound, page <= pfn {
        visit(page)
        page += 1
      }
      next = page
      if page < run.upperBound || pfn < run.upperBound { return false }
      runs.removeFirst()
    }
    return true
  }
}
