import Algorithms

/// Counts pages that come in ascending order into the cells of a ``MemoryMap``.
struct MapGrid {
  let cellPageCount: UInt64
  private let shift: UInt64
  /// RAM as ranges of PFNs that neither touch nor overlap, in ascending order.
  private let ranges: [Range<UInt64>]
  private let classCount: Int
  /// PFN >> shift of each cell.
  private var keys: [UInt64] = []
  private var ramPageCounts: [UInt64] = []
  /// By cell, then class.
  private var counts: [UInt64]
  private var rangeIndex = 0
  private var cellIndex = 0

  /// The finest cells, down to a page, of which there are at most `maximumCellCount`.
  ///
  /// - Complexity: O(*c*) memory for *c* cells.
  init(layouts: [RAMLayout], classCount: Int, maximumCellCount: Int) {
    ranges = Self.union(layouts)
    self.classCount = classCount
    var shift: UInt64 = 0
    // At 2⁵² all of RAM is one cell.
    while shift < 52, Self.cellCount(ranges, shift) > max(1, maximumCellCount) { shift += 1 }
    self.shift = shift
    cellPageCount = 1 << shift
    for range in ranges {
      var pfn = range.lowerBound
      while pfn < range.upperBound {
        let key = pfn >> shift
        let end = min(range.upperBound, (key + 1) << shift)
        if keys.last != key {
          keys.append(key)
          ramPageCounts.append(0)
        }
        ramPageCounts[keys.count - 1] += end - pfn
        pfn = end
      }
    }
    counts = [UInt64](repeating: 0, count: keys.count * classCount)
  }

  private static func union(_ layouts: [RAMLayout]) -> [Range<UInt64>] {
    let all = layouts.flatMap(\.regions)
      .map { $0.firstPFN.rawValue..<($0.firstPFN.rawValue + $0.pageCount) }
      .sorted { $0.lowerBound < $1.lowerBound }
    var result: [Range<UInt64>] = []
    for range in all {
      if let last = result.last, range.lowerBound <= last.upperBound {
        result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }

  private static func cellCount(_ ranges: [Range<UInt64>], _ shift: UInt64) -> UInt64 {
    var count: UInt64 = 0
    var last: UInt64?
    for range in ranges {
      let (first, end) = (range.lowerBound >> shift, (range.upperBound - 1) >> shift)
      count += end - first + (first == last ? 0 : 1)
      last = end
    }
    return count
  }

  /// Counts pages, cell by cell. Pages that are not RAM, as only a damaged store has them, do not count.
  mutating func add(_ pages: Range<UInt64>, classIndex: Int) {
    var pfn = pages.lowerBound
    while pfn < pages.upperBound {
      while rangeIndex < ranges.count, ranges[rangeIndex].upperBound <= pfn { rangeIndex += 1 }
      guard rangeIndex < ranges.count else { return }
      pfn = max(pfn, ranges[rangeIndex].lowerBound)
      guard pfn < pages.upperBound else { return }
      let key = pfn >> shift
      let end = min(pages.upperBound, ranges[rangeIndex].upperBound, (key + 1) << shift)
      while keys[cellIndex] < key { cellIndex += 1 }
      counts[cellIndex * classCount + classIndex] += end - pfn
      pfn = end
    }
  }

  /// The number of the cell that a page is in; pages of one cell have the same.
  func cellNumber(_ pfn: UInt64) -> UInt64 { pfn >> shift }

  /// Whether a page is RAM.
  func isRAM(_ pfn: UInt64) -> Bool {
    let index = ranges.partitioningIndex { $0.upperBound > pfn }
    return index < ranges.count && ranges[index].contains(pfn)
  }

  /// The cells; class 0 gets the pages that were not counted.
  func cells(overlays: [MemoryMap.OverlayMark]) -> [MemoryMap.Cell] {
    var overlayCounts: [UInt64: Int] = [:]
    for mark in overlays { overlayCounts[mark.pfn >> shift, default: 0] += 1 }
    return keys.indices.map { index in
      var pageCounts = Array(counts[(index * classCount)..<((index + 1) * classCount)])
      // A store that was made to mislead can have more pages than its RAM.
      pageCounts[0] =
        ramPageCounts[index] - min(ramPageCounts[index], pageCounts.dropFirst().reduce(0, +))
      return MemoryMap.Cell(
        firstPFN: keys[index] << shift,
        ramPageCount: ramPageCounts[index],
        pageCounts: pageCounts,
        overlayPageCount: overlayCounts[keys[index]] ?? 0
      )
    }
  }
}
