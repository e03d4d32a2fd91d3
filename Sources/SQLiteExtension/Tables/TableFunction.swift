import CSQLiteExtension

/// A table-valued SQL function: read-only, with arguments that are hidden columns.
struct TableFunction {
  let help: FunctionHelp
  /// The declarations of the visible columns, such as `pfn INTEGER`.
  let columns: [String]
  /// The declarations of columns that `SELECT *` leaves out. They come after all others.
  var hiddenColumns: [String] = []
  /// The column by which rows ascend, and whose comparisons are handed to ``open``.
  var keyColumn: Int?
  /// Whether no two rows have the same value in the key column.
  var isKeyUnique = true
  /// How many rows a table has without any comparison: what SQLite's planner goes by.
  var typicalRowCount: Int64 = 1 << 16
  /// Whether ``vmckpt_help``, whose end is the connection's.
  var isLifetimeHook = false
  let open: (Connection, TableQuery) throws -> any TableCursor

  func register(_ connection: Connection) throws {
    let context = Unmanaged.passRetained(TableInstance(function: self, connection: connection))
    let code = vmx_create_module(
      connection.database,
      help.name,
      tableModule,
      context.toOpaque(),
      { Unmanaged<TableInstance>.fromOpaque($0!).release() }
    )
    guard code == SQLITE_OK else { throw SQLError(code: code, of: connection.database) }
  }

  /// What `sqlite3_declare_vtab` takes. The arguments follow the visible columns: SQLite takes hidden columns
  /// as arguments in their order. So one more column takes what is an argument too many, before
  /// ``hiddenColumns`` would.
  var declaration: String {
    let hidden =
      help.arguments.map { "\"\($0)\" HIDDEN" }
      + (surplusColumnCount > 0 ? ["\"surplus argument\" HIDDEN"] : [])
      + hiddenColumns.map { "\($0) HIDDEN" }
    return "CREATE TABLE x(\((columns + hidden).joined(separator: ", ")))"
  }
}

extension TableFunction {
  /// How many columns are there for arguments that are too many.
  var surplusColumnCount: Int { hiddenColumns.isEmpty ? 0 : 1 }
}

/// What a query asks of a table.
struct TableQuery {
  /// One for each argument; `nil` for those that were left out.
  var arguments: [SQLArgument?]
  /// The values of the key column that rows may have.
  var range: ClosedRange<Int64> = .min ... .max
  /// The visible columns that the query reads, as bits; the last stands for all further ones.
  var usedColumns: UInt64 = .max
}

/// The rows of one query.
protocol TableCursor: AnyObject {
  /// Moves to the next row; the first call to the first.
  func next() throws -> Bool
  /// A column of the row: a visible one, or after these one of ``TableFunction/hiddenColumns``.
  func column(_ index: Int) throws -> SQLValue
}

/// A table function on a connection.
final class TableInstance {
  let function: TableFunction
  let connection: Connection

  init(function: TableFunction, connection: Connection) {
    self.function = function
    self.connection = connection
  }
}
