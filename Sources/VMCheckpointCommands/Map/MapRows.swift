/// Cells arranged in rows of equal length that begin at multiples of their size, so that the place
/// of a cell shows its address.
struct MapRows {
  struct Row {
    /// Of the row's first cell, RAM or not.
    var firstPFN: UInt64
    /// Whether addresses without RAM lie between the row above and this one.
    var followsGap: Bool
    /// Indexes of cells by column; a column without RAM is not there.
    var cells: [(column: Int, index: Int)]
  }

  let columnCount: Int
  private(set) var rows: [Row] = []

  /// - Parameter firstPFNs: Of the cells, ascending.
  init(firstPFNs: [UInt64], cellPageCount: UInt64, columnCount: Int) {
    self.columnCount = columnCount
    let rowPageCount = cellPageCount * UInt64(columnCount)
    for (index, pfn) in firstPFNs.enumerated() {
      let firstPFN = pfn / rowPageCount * rowPageCount
      if rows.last?.firstPFN != firstPFN {
        let next = rows.last.map { $0.firstPFN + rowPageCount }
        rows.append(Row(firstPFN: firstPFN, followsGap: next != nil && next != firstPFN, cells: []))
      }
      rows[rows.count - 1].cells.append((Int((pfn - firstPFN) / cellPageCount), index))
    }
  }

  /// The columns of a picture: about as many as rows, a power of two, 16 to 128.
  static func columnCount(cellCount: Int) -> Int {
    var count = 16
    while count < 128, count * count < cellCount { count *= 2 }
    return count
  }
}
