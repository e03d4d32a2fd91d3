import VMCheckpoint

/// A place on a picture; units are pixels from the upper left corner.
struct PictureArea {
  var x: Int
  var y: Int
  var width: Int
  var height: Int

  init(_ x: Int, _ y: Int, _ width: Int, _ height: Int) {
    self.x = x
    self.y = y
    self.width = width
    self.height = height
  }
}

/// What a map is drawn on. What an area stands for, its `tooltip`, shows when pointed at, where the
/// format can do that.
protocol MapCanvas {
  /// Fills the area.
  mutating func fill(_ area: PictureArea, _ colour: MapColour, tooltip: String?)
  /// The area's outline, two pixels wide, inside it.
  mutating func frame(_ area: PictureArea, _ colour: MapColour, tooltip: String?)
  /// One line of text with its baseline at `y`, from `x` on or, `endsAtX`, up to there.
  mutating func text(_ text: String, _ x: Int, _ y: Int, endsAtX: Bool, isTitle: Bool)
}

extension MapCanvas {
  mutating func fill(_ area: PictureArea, _ colour: MapColour) {
    fill(area, colour, tooltip: nil)
  }

  mutating func text(_ text: String, _ x: Int, _ y: Int, endsAtX: Bool = false) {
    self.text(text, x, y, endsAtX: endsAtX, isTitle: false)
  }
}

/// Arranges a map as a picture: title, axes of guest-physical addresses, cells, legend.
struct MapDrawing {
  static let maximumCellCount = 128 * 128

  private let map: MemoryMap
  private let rows: MapRows
  private let cellSize: Int

  /// The widest character of all canvases.
  private static let characterWidth = 7
  private static let left = 112
  private static let right = 160
  private static let top = 76
  private static let lineHeight = 18
  private static let gapHeight = 14
  /// Addresses closer than that would touch.
  private static let labelPitch = 14
  private static let maximumNameLength = 20

  init(_ map: MemoryMap) {
    self.map = map
    let columnCount = MapRows.columnCount(cellCount: map.cells.count)
    rows = MapRows(
      firstPFNs: map.cells.map(\.firstPFN),
      cellPageCount: map.cellPageCount,
      columnCount: columnCount
    )
    cellSize = [16: 24, 32: 16, 64: 10][columnCount] ?? 6
  }

  var width: Int { Self.left + rows.columnCount * cellSize + Self.right }

  var height: Int {
    let gaps = rows.rows.count { $0.followsGap }
    let legendLines = map.classes.count + (map.overlays.isEmpty ? 0 : 1)
    return Self.top + rows.rows.count * cellSize + gaps * Self.gapHeight + 24
      + legendLines * Self.lineHeight + 8
  }

  /// What the picture shows.
  var title: String {
    map.base.map { "What changed from \($0) to \(map.snapshot)" }
      ?? "RAM of \(map.snapshot)" + (map.isByOwner ? " by owner" : "")
  }

  func draw(on canvas: inout some MapCanvas) {
    canvas.fill(PictureArea(0, 0, width, height), .paper)
    let room = (width - 24) / (Self.characterWidth + 2)
    canvas.text(Self.shortened(title, to: room), 12, 22, endsAtX: false, isTitle: true)
    let ram = map.cells.reduce(0) { $0 + $1.ramPageCount }
    canvas.text(
      "\(HumanReadable.pages(ram)) of RAM. A cell is \(HumanReadable.pages(map.cellPageCount)), "
        + "a row \(HumanReadable.pages(map.cellPageCount * UInt64(rows.columnCount))).",
      12,
      42
    )
    drawColumnAxis(on: &canvas)
    let bottom = drawRows(on: &canvas)
    drawLegend(at: bottom + 24, on: &canvas)
  }

  private func drawColumnAxis(on canvas: inout some MapCanvas) {
    canvas.text("GPA", Self.left - 8, Self.top - 8, endsAtX: true)
    for quarter in 0..<4 {
      let column = rows.columnCount / 4 * quarter
      let x = Self.left + column * cellSize
      let offset = UInt64(column) * map.cellPageCount << 12
      canvas.fill(PictureArea(x, Self.top - 5, 1, 4), .ink)
      canvas.text("+\(HumanReadable.hex(offset))", x, Self.top - 8)
    }
  }

  /// - Returns: The y below the last row.
  private func drawRows(on canvas: inout some MapCanvas) -> Int {
    let rowPageCount = map.cellPageCount * UInt64(rows.columnCount)
    // A power of two, so that the addresses at the labels are round.
    let rowsPerLabel: UInt64 =
      cellSize >= Self.labelPitch ? 1 : cellSize * 2 >= Self.labelPitch ? 2 : 4
    // Letters are seven pixels high and are in the middle of the row.
    let baseline = (cellSize + 7) / 2
    var y = Self.top
    var labelY = -Self.labelPitch
    var regions = map.regions[...]
    var marks: [(x: Int, y: Int, tooltip: String)] = []
    for row in rows.rows {
      if row.followsGap {
        canvas.text("(no RAM)", Self.left, y + 11)
        y += Self.gapHeight
      }
      let isRound = row.firstPFN / rowPageCount % rowsPerLabel == 0
      if y - labelY >= Self.labelPitch, isRound || row.followsGap || labelY < 0 {
        let label = HumanReadable.hex(row.firstPFN << 12)
        canvas.text(label, Self.left - 8, y + baseline, endsAtX: true)
        labelY = y
      }
      let end = row.firstPFN + rowPageCount
      let starting = regions.prefix { $0.firstPFN.rawValue < end }
      regions = regions.dropFirst(starting.count)
      if let name = starting.first?.name {
        let more = starting.count > 1 ? " +\(starting.count - 1)" : ""
        let x = Self.left + rows.columnCount * cellSize + 8
        let text = Self.shortened(name, to: Self.maximumNameLength - more.count) + more
        canvas.text(text, x, y + baseline)
      }
      draw(row, y: y, on: &canvas, marks: &marks)
      y += cellSize
    }
    // Last, so that no cell covers them.
    for mark in marks {
      let area = PictureArea(mark.x - 2, mark.y - 2, cellSize + 4, cellSize + 4)
      canvas.frame(area, .mark, tooltip: mark.tooltip)
    }
    return y
  }

  /// Cells of one class next to each other become one rectangle.
  private func draw(
    _ row: MapRows.Row,
    y: Int,
    on canvas: inout some MapCanvas,
    marks: inout [(x: Int, y: Int, tooltip: String)]
  ) {
    // The picture of a large guest has no room for lines between the cells.
    let space = cellSize > 6 ? 1 : 0
    var position = 0
    while position < row.cells.count {
      let (column, index) = row.cells[position]
      let cell = map.cells[index]
      let look = look(of: cell)
      var last = cell
      var count = 1
      // Owners are another in each cell.
      if let only = onlyClass(of: cell), space == 0 {
        while position + count < row.cells.count {
          let next = row.cells[position + count]
          guard next.column == column + count, onlyClass(of: map.cells[next.index]) == only,
            map.cells[next.index].owners == cell.owners
          else { break }
          last = map.cells[next.index]
          count += 1
        }
      }
      let x = Self.left + column * cellSize
      let tooltip = tooltip(from: cell, through: last, count: count)
      let area = PictureArea(x, y, cellSize * count - space, cellSize - space)
      canvas.fill(area, look.colour, tooltip: tooltip)
      if cell.overlayPageCount > 0 { marks.append((x, y, tooltip)) }
      position += count
    }
  }

  private func look(of cell: MemoryMap.Cell) -> CellLook {
    CellLook(
      classes: map.classes,
      pageCounts: cell.pageCounts,
      ramPageCount: cell.ramPageCount
    )
  }

  /// The class of all pages of a cell that is full of RAM and has no overlays.
  private func onlyClass(of cell: MemoryMap.Cell) -> Int? {
    guard cell.overlayPageCount == 0, cell.ramPageCount == map.cellPageCount else { return nil }
    return cell.pageCounts.firstIndex(of: cell.ramPageCount)
  }

  private func tooltip(
    from cell: MemoryMap.Cell,
    through last: MemoryMap.Cell,
    count: Int
  ) -> String {
    let end = last.firstPFN + map.cellPageCount
    let first = "GPA \(HumanReadable.hex(cell.firstPFN << 12))"
    let size = cell.ramPageCount * UInt64(count)
    var text = "\(first), PFN \(HumanReadable.hex(cell.firstPFN))-\(HumanReadable.hex(end - 1))"
    for (pageClass, pages) in zip(map.classes, cell.pageCounts) where pages > 0 {
      text += "\n\(pageClass.title): \(pages * UInt64(count)) of \(size) pages"
    }
    if !cell.owners.isEmpty { text += "\nmost of it:" }
    for owner in cell.owners {
      text += "\n  \(owner.title): \(owner.pageCount * UInt64(count))"
    }
    guard cell.overlayPageCount > 0 else { return text }
    let start = map.overlays.prefix { $0.pfn < cell.firstPFN }.count
    for mark in map.overlays[start...].prefix(min(cell.overlayPageCount, 8)) {
      let kinds = mark.kinds.prefix(8).map(\.rawValue).joined(separator: ", ")
      text += "\noverlays at PFN \(HumanReadable.hex(mark.pfn)): \(kinds)"
    }
    return text
  }

  private func drawLegend(at top: Int, on canvas: inout some MapCanvas) {
    var y = top
    for (pageClass, count) in zip(map.classes, map.pageCounts) {
      canvas.fill(PictureArea(Self.left, y - 10, 12, 12), pageClass.colour)
      canvas.text(pageClass.title, Self.left + 20, y)
      let pages = HumanReadable.count(count, "page")
      canvas.text(pages, Self.left + 300, y, endsAtX: true)
      canvas.text(HumanReadable.pages(count), Self.left + 384, y, endsAtX: true)
      y += Self.lineHeight
    }
    guard !map.overlays.isEmpty else { return }
    canvas.frame(PictureArea(Self.left, y - 10, 12, 12), .mark, tooltip: nil)
    canvas.text("overlays", Self.left + 20, y)
    let pages = HumanReadable.count(map.overlays.count, "page")
    canvas.text(pages, Self.left + 300, y, endsAtX: true)
  }

  /// `text` on one line of at most `length` characters.
  private static func shortened(_ text: String, to length: Int) -> String {
    let text = printable(text)
    return text.count <= length ? text : text.prefix(max(0, length - 3)) + "..."
  }
}

extension MemoryMap.Owner {
  private static let maximumFileLength = 96

  /// As tooltips have it: the class, who, and of which file.
  var title: String {
    var text = pageClass.title
    if let name { text += " \(printable(name))" }
    if let pid { text += " (\(pid))" }
    if let file {
      let path = printable(file)
      text +=
        path.count > Self.maximumFileLength
        ? " ...\(path.suffix(Self.maximumFileLength))" : " \(path)"
    }
    return text
  }
}
