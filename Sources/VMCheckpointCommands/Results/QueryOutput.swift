import VMCheckpoint

/// What `query` prints.
enum QueryOutput: CommandOutput, Hashable {
  case list(QueryListOutput)
  case answer(QueryAnswerOutput)
  case sql(QuerySQLOutput)

  /// Decodes the one of the three whose keys the document has.
  init(from decoder: any Decoder) throws {
    if let list = try? QueryListOutput(from: decoder) {
      self = .list(list)
    } else if let answer = try? QueryAnswerOutput(from: decoder) {
      self = .answer(answer)
    } else {
      self = .sql(try QuerySQLOutput(from: decoder))
    }
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .list(let output): try output.encode(to: encoder)
    case .answer(let output): try output.encode(to: encoder)
    case .sql(let output): try output.encode(to: encoder)
    }
  }

  var text: String {
    switch self {
    case .list(let output): output.text
    case .answer(let output): output.text
    case .sql(let output): output.text
    }
  }

  var notice: String? {
    guard case .answer(let answer) = self else { return nil }
    var lines = answer.notes.map { note in
      GuestNote(table: note.table, snapshot: note.snapshot, rowCount: note.rows, text: note.note)
        .warning
    }
    if answer.truncated { lines.append("there are more rows than these \(answer.rows.count)") }
    return lines.isEmpty ? nil : lines.joined(separator: "; ")
  }
}

/// The queries that there are.
struct QueryListOutput: Codable, Hashable, Sendable {
  struct Parameter: Codable, Hashable, Sendable {
    var name: String
    var kind: StoreQuery.ParameterKind
    @Nullable var defaultText: String?
    var description: String

    enum CodingKeys: String, CodingKey {
      case name, kind
      case defaultText = "default"
      case description
    }
  }

  struct Query: Codable, Hashable, Sendable {
    var name: String
    var title: String
    var details: String
    var parameters: [Parameter]
    var sql: String
  }

  var queries: [Query]

  init(_ queries: [StoreQuery]) {
    self.queries = queries.map { query in
      Query(
        name: query.name,
        title: query.title,
        details: query.details,
        parameters: query.parameters.map {
          Parameter(
            name: $0.name,
            kind: $0.kind,
            defaultText: $0.defaultText,
            description: $0.description
          )
        },
        sql: query.sql
      )
    }
  }

  var text: String {
    queries.map { query in
      let parameters = query.parameters.map { parameter in
        parameter.defaultText.map { "[\(parameter.name)=\($0)]" } ?? parameter.name
      }
      return ([query.name] + parameters).joined(separator: " ") + "\n    \(query.title)\n"
    }.joined()
  }
}

/// A query's SQL and the values of its parameters.
struct QuerySQLOutput: Codable, Hashable, Sendable {
  var query: String
  var parameters: [String: JSONValue]
  var sql: String
  /// What the sqlite3 shell takes: the parameters, and the SQL.
  var shell: String

  /// - Parameter sql: The query's, as it runs in the store.
  init(_ query: StoreQuery, sql: String, _ arguments: [QueryArgument]) {
    self.query = query.name
    parameters = QueryAnswerOutput.members(arguments)
    self.sql = sql
    let needs =
      query.needsFunctions ? "-- For vmckpt sql, or sqlite3 with vmckpt's extension loaded.\n" : ""
    shell = arguments.map { $0.shellLine + "\n" }.joined() + needs + sql
  }

  var text: String { shell }
}

/// A query's answer.
struct QueryAnswerOutput: Codable, Hashable, Sendable {
  var query: String
  var parameters: [String: JSONValue]
  /// In their order, which the objects of `rows` do not keep.
  var columns: [String]
  var rows: [[String: JSONValue]]
  var truncated: Bool
  /// What tables of guests could not read.
  var notes: [Note]

  struct Note: Codable, Hashable, Sendable {
    var table: String
    var snapshot: String
    /// How many rows of the table have a note.
    var rows: Int
    /// The first of them.
    var note: String
  }

  init(_ query: StoreQuery, _ result: QueryResult) {
    notes = result.notes.map {
      Note(table: $0.table, snapshot: $0.snapshot, rows: $0.rowCount, note: $0.text)
    }
    self.query = query.name
    parameters = Self.members(result.arguments)
    columns = result.columns
    rows = result.rows.map { values in
      Dictionary(zip(result.columns, values.map(JSONValue.init))) { first, _ in first }
    }
    truncated = result.isTruncated
  }

  /// Arguments as an object.
  static func members(_ arguments: [QueryArgument]) -> [String: JSONValue] {
    Dictionary(arguments.map { ($0.name, JSONValue($0.value)) }) { first, _ in first }
  }

  /// A table. Columns of bytes, PFNs and GPAs read as elsewhere; the JSON, and the SQL in a shell,
  /// have the bare numbers.
  var text: String {
    TextTable(
      columns.map { column in
        let isNumeric = rows.allSatisfy { row in
          switch row[column] {
          case .integer, .number, .null, nil: true
          default: false
          }
        }
        return (column, isNumeric ? .right : .left)
      },
      rows: rows.map { row in
        columns.map { Self.cell(row[$0] ?? .null, column: $0) }
      }
    ).text()
  }

  private static func cell(_ value: JSONValue, column: String) -> String {
    switch value {
    case .integer(let number):
      guard let count = UInt64(exactly: number) else { return "\(number)" }
      if column == "bytes" || column.hasSuffix("_bytes") { return HumanReadable.bytes(count) }
      if column == "gpa" || column == "pfn" || column.hasSuffix("_pfn") {
        return HumanReadable.hex(count)
      }
      return "\(number)"
    case .number(let number): return "\(number)"
    case .string(let text): return text
    default: return ""
    }
  }
}

extension JSONValue {
  init(_ value: QueryValue) {
    switch value {
    case .null: self = .null
    case .integer(let number): self = .integer(number)
    case .real(let number): self = .number(number)
    case .text(let text): self = .string(text)
    }
  }
}
