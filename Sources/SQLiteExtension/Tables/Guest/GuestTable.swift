import VMCheckpointCore

/// A column of a guest's table: its declaration, and its value in a row.
struct GuestColumn<Row> {
  let declaration: String
  let value: (Row) -> SQLValue

  init(_ declaration: String, _ value: @escaping (Row) -> SQLValue) {
    self.declaration = declaration
    self.value = value
  }
}

extension TableFunction {
  /// A table `name(snapshot)` of what a guest's kernel has, with the hidden column `note`, which says what
  /// could not be read.
  ///
  /// - Parameters:
  ///   - keyColumn: The column that is the key if `isKeyed`; rows ascend by it.
  ///   - note: A row's note.
  ///   - read: All rows whose key is in the range.
  static func guest<Row>(
    _ name: String,
    _ summary: String,
    isKeyed: Bool = true,
    keyColumn: Int = 0,
    typicalRowCount: Int64 = 256,
    columns: [GuestColumn<Row>],
    note: @escaping (Row) -> String?,
    read: @escaping (GuestKernel, ClosedRange<Int64>) throws -> [Row]
  ) -> TableFunction {
    let values = columns.map(\.value) + [{ (row: Row) -> SQLValue in .string(note(row)) }]
    return TableFunction(
      help: FunctionHelp(name, ["snapshot"], kind: .table, returns: "rows", summary),
      columns: columns.map(\.declaration),
      hiddenColumns: ["note TEXT"],
      keyColumn: isKeyed ? keyColumn : nil,
      isKeyUnique: false,
      typicalRowCount: typicalRowCount
    ) { connection, query in
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      do {
        let kernel = try connection.guests.kernel(snapshot)
        let rows = try read(kernel, query.range)
        // A list that is torn at its beginning leaves no row to put the note into.
        let rest = kernel.takeNotes()
        return GuestCursor(
          rows: rows,
          values: values,
          lastNote: query.range == .min ... .max ? rest : nil
        )
      } catch let fault as GuestFault {
        throw SQLError.misuse("\(name): \(snapshot.title): \(fault)")
      }
    }
  }
}

/// Rows that have been read, and if there is a note that belongs to none of them, one more with it alone.
final class GuestCursor<Row>: TableCursor {
  private let rows: [Row]
  private let values: [(Row) -> SQLValue]
  private let lastNote: String?
  private var index = -1

  /// - Parameter values: Of the columns, the note being the last.
  init(rows: [Row], values: [(Row) -> SQLValue], lastNote: String? = nil) {
    self.rows = rows
    self.values = values
    self.lastNote = lastNote
  }

  func next() -> Bool {
    index += 1
    return index < rows.count + (lastNote == nil ? 0 : 1)
  }

  func column(_ column: Int) -> SQLValue {
    guard index < rows.count else { return column == values.count - 1 ? .string(lastNote) : .null }
    return values[column](rows[index])
  }
}
