import VMCheckpointSchema

/// A question that can be asked of any store: documented SQL with named parameters.
///
/// Its SQL reads tables and views of the store's format only, so that it runs in the plain sqlite3
/// shell as well, as ``Store/sql(of:)`` gives it: a table of a feature may not be there. Questions about what a
/// guest was doing need the functions of the SQL extension beside: ``needsFunctions``.
public struct StoreQuery: Hashable, Sendable {
  /// What a value of a parameter is.
  public enum ParameterKind: String, Hashable, Sendable, Codable {
    /// A ``SnapshotReference``; the SQL sees the snapshot's name.
    case snapshot
    /// The name of a virtual machine that has snapshots; `*`, where it is the default, stands for
    /// all of them, which the SQL sees as NULL.
    case vm
    /// How many rows, 1 to ``QueryResult/maximumRowCount``.
    case count
    /// A guest page frame number, in decimal or as `0x…`.
    case pfn
  }

  /// A value that the query needs.
  public struct Parameter: Hashable, Sendable {
    /// Without the colon that it has in SQL.
    public var name: String
    /// What values it takes.
    public var kind: ParameterKind
    /// What stands for it when it is not given; `nil`: it must be given.
    public var defaultText: String?
    /// A sentence.
    public var description: String
  }

  /// The name that users give, such as `changed-pages`.
  public var name: String
  /// What it answers: a sentence.
  public var title: String
  /// More about it and its columns; empty when there is nothing more to say.
  public var details: String
  /// In the order in which values without a name are taken.
  public var parameters: [Parameter]
  /// The whole text, comments included, ending in a newline.
  public var sql: String

  /// Whether it needs the functions of the SQL extension: see ``Store/addFunctions(_:)``.
  public var needsFunctions: Bool { sql.contains("guest_") }

  /// Every query, in the order in which they are listed.
  public static let all: [StoreQuery] = QuerySQL.all.map { name, sql in
    guard let query = StoreQuery(name: name, sql: sql) else {
      preconditionFailure("the header of query \(name) does not follow its format")
    }
    return query
  }

  /// The query called `name`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`, with names that are near.
  public static func named(_ name: String) throws(VMCheckpointError) -> StoreQuery {
    if let query = all.first(where: { $0.name == name }) { return query }
    let near = NameSuggestion.nearest(to: name, among: all.map(\.name))
    throw VMCheckpointError(
      .invalidArgument,
      "there is no query \(quotedName(name))",
      hint: near.isEmpty
        ? "see all with: vmckpt query"
        : "did you mean \(near.map(quotedName).joined(separator: " or "))?"
    )
  }
}

extension StoreQuery {
  /// Reads the comment that begins a query's file:
  ///
  /// ```sql
  /// -- A sentence that says what it answers.
  /// --
  /// -- More about it, over as many lines as needed.
  /// --
  /// -- :snapshot (snapshot = latest) A sentence about the parameter.
  /// -- :pfn (pfn) One without a default.
  /// SELECT …
  /// ```
  ///
  /// `nil` when `sql` does not begin so.
  init?(name: String, sql: String) {
    let header = sql.split(separator: "\n", omittingEmptySubsequences: false)
      .prefix { $0.hasPrefix("--") }
      .map { $0.dropFirst(2).drop { $0 == " " } }
    guard let title = header.first, !title.isEmpty, sql.hasSuffix(";\n") else { return nil }
    var details: [Substring] = []
    var parameters: [Parameter] = []
    for line in header.dropFirst() {
      guard line.hasPrefix(":") else {
        if !parameters.isEmpty { return nil }
        details.append(line)
        continue
      }
      guard let parameter = Parameter(line) else { return nil }
      parameters.append(parameter)
    }
    self.name = name
    self.title = String(title)
    self.details = details.split(separator: "").map { $0.joined(separator: " ") }
      .joined(separator: "\n\n")
    self.parameters = parameters
    self.sql = sql
  }
}

extension StoreQuery.Parameter {
  /// From `:name (kind = default) Description.` or `:name (kind) Description.`
  fileprivate init?(_ line: Substring) {
    guard let open = line.firstIndex(of: "("), let close = line.firstIndex(of: ")"), open < close
    else { return nil }
    let name = line[..<open].dropFirst().trimmingSpaces()
    let type = line[line.index(after: open)..<close].split(separator: "=", maxSplits: 1)
    let description = line[line.index(after: close)...].trimmingSpaces()
    guard let first = type.first,
      let kind = StoreQuery.ParameterKind(rawValue: first.trimmingSpaces()),
      !name.isEmpty, !description.isEmpty
    else { return nil }
    self.init(
      name: name,
      kind: kind,
      defaultText: type.count == 2 ? type[1].trimmingSpaces() : nil,
      description: description
    )
  }
}

extension Substring {
  fileprivate func trimmingSpaces() -> String {
    String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}
