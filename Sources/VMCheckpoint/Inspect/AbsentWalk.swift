/// Puts runs of absent pages between pages that come in ascending order.
struct AbsentWalk {
  private var runs: ArraySlice<Range<UInt64>>
  /// All absent pages below it were visited.
  private var next: UInt64 = 0

  init(_ pages: AbsentPages) {
    runs = pages.runs[...]
  }

  /// Calls `visit` with the absent pages up to `pfn`, that page included, which it was not called with before.
  ///
  /// - Returns: Whether `pfn` is not absent.
  /// - Complexity: O(*n*) in the number of runs, over all calls, however long they are.
  mutating func skip(to pfn: UInt64, _ visit: (Range<UInt64>) -> Void) -> Bool {
    while let run = runs.first, run.lowerBound <= pfn {
      let first = max(next, run.lowerBound)
      let end = pfn < run.upperBound ? pfn + 1 : run.upperBound
      if first < end {
        visit(first..<end)
        next = end
      }
      if pfn < run.upperBound { return false }
      runs.removeFirst()
    }
    return true
  }
}
