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
        guard let listNote = kernel.takeNotes() else {
          return GuestCursor(rows: rows, values: values)
        }
        return GuestCursor(
          rows: rows,
          values: values,
          listNote: listNote,
          keyColumn: isKeyed ? keyColumn : nil,
          range: query.range
        )
      } catch let fault as GuestFault {
        throw SQLError.misuse("\(name): \(snapshot.title): \(fault)")
      }
    }
  }
}

/// Rows that have been read. A note that belongs to none of them, as of a list that is torn, goes to the last row;
/// where there is none, and in tables without a key, it has a row of its own.
///
/// So no comparison of the key hides that rows may be missing: "there is no process 7" and "its list is torn"
/// look different.
final class GuestCursor<Row>: TableCursor {
  private let rows: [Row]
  private let values: [(Row) -> SQLValue]
  /// Of the row of its own.
  private var ownNote: String?
  private var ownKey: (column: Int, value: Int64)?
  /// What is added to the last row's note.
  private var addedNote: String?
  private var index = -1

  /// - Parameters:
  ///   - values: Of the columns, the note being the last.
  ///   - listNote: The note that belongs to no row.
  ///   - keyColumn: The column that is compared, if one is.
  ///   - range: The values of that column that were asked for.
  init(
    rows: [Row],
    values: [(Row) -> SQLValue],
    listNote: String? = nil,
    keyColumn: Int? = nil,
    range: ClosedRange<Int64> = .min ... .max
  ) {
    self.rows = rows
    self.values = values
    guard let listNote else { return }
    guard let keyColumn, range != .min ... .max else {
      if keyColumn != nil, !rows.isEmpty { addedNote = listNote } else { ownNote = listNote }
      return
    }
    if rows.isEmpty {
      // SQLite compares the key once more: the row has one that was asked for.
      ownKey = (keyColumn, range.lowerBound != .min ? range.lowerBound : range.upperBound)
      ownNote = "there may be more: \(listNote)"
    } else if range.lowerBound < range.upperBound {
      // What is asked for by one number was found.
      addedNote = listNote
    }
  }

  func next() -> Bool {
    index += 1
    return index < rows.count + (ownNote == nil ? 0 : 1)
  }

  func column(_ column: Int) -> SQLValue {
    let isNote = column == values.count - 1
    guard index < rows.count else {
      if isNote { return .string(ownNote) }
      if let ownKey, ownKey.column == column { return .integer(ownKey.value) }
      return .null
    }
    guard isNote, let addedNote, index == rows.count - 1 else {
      return values[column](rows[index])
    }
    guard case .text(let note) = values[column](rows[index]) else { return .text(addedNote) }
    return .text("\(note); \(addedNote)")
  }
}
