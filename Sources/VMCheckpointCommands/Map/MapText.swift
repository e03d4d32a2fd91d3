import VMCheckpoint

/// A map as lines of block characters.
struct MapText {
  /// With the addresses before them, 64 columns fit a terminal of 80.
  static let columnCount = 64
  /// A screenful of rows.
  static let maximumCellCount = columnCount * 32

  static let overlayCharacter: Character = "◆"

  var output: MapOutput
  var usesColour: Bool

  var text: String { heading + grid + "\n" + legend }

  private var heading: String {
    let name = printable(output.snapshot)
    let title =
      output.base.map { "What changed from \(printable($0)) to \(name)" } ?? "RAM of \(name)"
      + (output.by == .owner ? " by owner" : "")
    return "\(title), a cell is \(HumanReadable.pages(output.cellPages))\n\n"
  }

  private var grid: String {
    let rows = MapRows(
      firstPFNs: output.cells.map(\.firstPFN),
      cellPageCount: output.cellPages,
      columnCount: Self.columnCount
    )
    let labels = rows.rows.map { HumanReadable.hex($0.firstPFN << 12) }
    let width = labels.map(\.count).max() ?? 0
    return zip(rows.rows, labels).map { row, label in
      let gap = row.followsGap ? String(repeating: " ", count: width) + "  (no RAM)\n" : ""
      return gap + String(repeating: " ", count: width - label.count) + label + "  "
        + line(of: row) + "\n"
    }.joined()
  }

  private func line(of row: MapRows.Row) -> String {
    var line = ""
    var column = 0
    var colour: Int?
    for (place, index) in row.cells {
      line += String(repeating: " ", count: place - column)
      column = place + 1
      let cell = output.cells[index]
      let look = CellLook(
        classes: output.orderedClasses,
        pageCounts: output.orderedClasses.map { cell.pages[$0.rawValue] ?? 0 },
        ramPageCount: cell.ramPages
      )
      let isMarked = cell.overlayPages > 0
      let wanted = isMarked ? 1 : look.pageClass.terminalColour
      if usesColour, wanted != colour {
        line += "\u{1B}[0;\(wanted)m"
        colour = wanted
      }
      line.append(isMarked ? Self.overlayCharacter : look.pageClass.character)
    }
    return usesColour ? line + "\u{1B}[0m" : line
  }

  /// The classes with their pages.
  var legend: String {
    let table = TextTable(
      [("", .left), ("", .left), ("PAGES", .right), ("SIZE", .right)],
      rows: output.orderedClasses.map { pageClass in
        let count = output.classes[pageClass.rawValue] ?? 0
        return [
          String(pageClass.character), pageClass.title, "\(count)", HumanReadable.pages(count),
        ]
      }
        + (output.overlays.isEmpty
          ? []
          : [[String(Self.overlayCharacter), "overlays", "\(output.overlays.count)", " "]])
    )
    return table.text(indentation: "  ")
  }
}
