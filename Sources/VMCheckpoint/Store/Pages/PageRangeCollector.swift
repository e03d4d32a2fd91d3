/// Builds ``PageChanges`` out of pages that come in ascending order.
struct PageRangeCollector {
  private let maximumRangeCount: Int
  private var ranges: [PageRange] = []
  private var last: PageRange?
  private var rangeCount: UInt64 = 0
  private var pageCount: UInt64 = 0

  /// Keeps at most `maximumRangeCount` ranges; counts all.
  init(maximumRangeCount: Int) {
    self.maximumRangeCount = maximumRangeCount
  }

  mutating func add(pfn: UInt64) { add(pfn..<(pfn + 1)) }

  mutating func add(_ run: Range<UInt64>) {
    let count = run.upperBound - run.lowerBound
    pageCount += count
    if let range = last, range.firstPFN + range.pageCount == run.lowerBound {
      last?.pageCount += count
      return
    }
    keepLast()
    last = PageRange(firstPFN: run.lowerBound, pageCount: count)
    rangeCount += 1
  }

  private mutating func keepLast() {
    if let last, ranges.count < maximumRangeCount { ranges.append(last) }
  }

  /// What was collected; call once.
  mutating func finish() -> PageChanges {
    keepLast()
    last = nil
    return PageChanges(pageCount: pageCount, ranges: ranges, rangeCount: rangeCount)
  }
}
