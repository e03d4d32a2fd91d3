/// A value of SQLite's.
public enum QueryValue: Hashable, Sendable {
  /// NULL.
  case null
  /// INTEGER.
  case integer(Int64)
  /// REAL; finite.
  case real(Double)
  /// TEXT.
  case text(String)
}

/// The answer to a ``StoreQuery``.
public struct QueryResult: Hashable, Sendable {
  /// The most rows that an answer has. Every query stays far below it, but for stores that
  /// are damaged, or made to mislead.
  public static let maximumRowCount = 100_000

  /// The most bytes of text that an answer has, for the same reason.
  static let maximumTextByteCount = 64 << 20

  /// The query's parameters with the values that the SQL saw, in their order.
  public var arguments: [QueryArgument]
  /// The names of the columns.
  public var columns: [String]
  /// Each with a value for every column.
  public var rows: [[QueryValue]]
  /// Whether there were more rows than ``maximumRowCount``.
  public var isTruncated: Bool
  /// What the tables of guests that were asked could not read: rows may be missing, or not be whole.
  public var notes: [GuestNote] = []
}

/// What a table of a guest, which a query asked, could not read.
public struct GuestNote: Hashable, Sendable {
  /// The table, such as `guest_process`.
  public var table: String
  /// The snapshot's name.
  public var snapshot: String
  /// How many rows of the table have a note.
  public var rowCount: Int
  /// The first of them.
  public var text: String

  package init(table: String, snapshot: String, rowCount: Int, text: String) {
    self.table = table
    self.snapshot = snapshot
    self.rowCount = rowCount
    self.text = text
  }

  /// What to say of it.
  public var warning: String {
    let rest = rowCount > 1 ? " (and \(rowCount - 1) more notes: see \(table))" : ""
    return "\(table) of \(snapshot) could not be read whole: \(text)\(rest)"
  }
}

/// A parameter's value.
public struct QueryArgument: Hashable, Sendable {
  /// Without the colon that it has in SQL.
  public var name: String
  /// What the SQL sees.
  public var value: QueryValue
}

extension QueryArgument {
  /// A line for the sqlite3 shell that sets the parameter.
  public var shellLine: String { ".parameter set :\(name) \(shellValue)" }

  /// An SQL expression in the shell's quotation marks. Text goes in as it is if it could be a name
  /// that vmckpt gives. A store made by another program may hold any text; neither the shell's
  /// quoting nor a terminal would leave that alone.
  private var shellValue: String {
    switch value {
    case .null: return "NULL"
    case .integer(let number): return "\(number)"
    case .real(let number): return "\(number)"
    case .text(let text):
      guard text.utf8.allSatisfy(SnapshotName.allows) else {
        let digits = text.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return "\"CAST(x'\(digits.joined())' AS TEXT)\""
      }
      return "\"'\(text)'\""
    }
  }
}
