/// Rows with a heading, in columns as wide as their contents: nothing is cut.
struct TextTable {
  enum Alignment {
    case left
    case right
  }

  var columns: [(title: String, alignment: Alignment)]

  /// Each with a text for every column; an empty one shows as `-`.
  var rows: [[String]]

  init(_ columns: [(title: String, alignment: Alignment)], rows: [[String]] = []) {
    self.columns = columns
    self.rows = rows
  }

  /// One line a row, each beginning with `indentation` and ending in a newline.
  func text(indentation: String = "") -> String {
    let cells =
      [columns.map(\.title)]
      + rows.map { row in row.map { $0.isEmpty ? "-" : printable($0) } }
    let cellWidths = cells.map { $0.map(Self.width) }
    let widths = columns.indices.map { column in cellWidths.map { $0[column] }.max() ?? 0 }
    // Bytes, because strings of characters take ten times as long to put together.
    let space = UInt8(ascii: " ")
    var text: [UInt8] = []
    for (row, rowWidths) in zip(cells, cellWidths) {
      text += indentation.utf8
      let lineStart = text.count
      for (index, cell) in row.enumerated() {
        if index > 0 { text += [space, space] }
        let padding = repeatElement(space, count: widths[index] - rowWidths[index])
        if columns[index].alignment == .right { text += padding }
        text += cell.utf8
        if columns[index].alignment == .left { text += padding }
      }
      while text.count > lineStart, text.last == space { text.removeLast() }
      text.append(UInt8(ascii: "\n"))
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// How many characters `cell` has. Text in ASCII, which is almost all, has one for each byte: it has
  /// no line ends, which `printable` escapes.
  private static func width(_ cell: String) -> Int {
    cell.utf8.allSatisfy { $0 < 0x80 } ? cell.utf8.count : cell.count
  }
}

/// Labels and their values, one pair a line.
struct FieldList {
  private var fields: [(label: String, value: String)] = []

  init() {}

  /// Adds a line; a value that is `nil` or empty shows as `-`.
  mutating func add(_ label: String, _ value: String?) {
    fields.append((label, value.flatMap { $0.isEmpty ? nil : printable($0) } ?? "-"))
  }

  /// The lines, indented by two spaces, with the values below each other.
  var text: String {
    let width = fields.map(\.label.count).max() ?? 0
    return fields.map { field in
      let space = String(repeating: " ", count: width - field.label.count + 2)
      return "  \(field.label)\(space)\(field.value)\n"
    }.joined()
  }
}
