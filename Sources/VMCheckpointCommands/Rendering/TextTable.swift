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
    let widths = columns.indices.map { column in
      cells.map { $0[column].count }.max() ?? 0
    }
    return cells.map { row in
      let padded = columns.indices.map { column in
        pad(row[column], to: widths[column], columns[column].alignment)
      }
      return indentation + trimmingTrailingSpaces(padded.joined(separator: "  ")) + "\n"
    }.joined()
  }

  private func pad(_ cell: String, to width: Int, _ alignment: Alignment) -> String {
    let space = String(repeating: " ", count: max(0, width - cell.count))
    return alignment == .left ? cell + space : space + cell
  }

  private func trimmingTrailingSpaces(_ line: String) -> Substring {
    line.dropLast(line.reversed().prefix { $0 == " " }.count)
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
