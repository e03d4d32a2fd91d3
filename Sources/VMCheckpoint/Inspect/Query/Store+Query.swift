import GRDB

extension Store {
  /// Asks `query`, in one read transaction.
  ///
  /// - Parameter arguments: Values by the parameters' names, as users write them; those left out
  ///   have their default.
  /// - Throws: ``VMCheckpointError``: `invalidArgument`, `notFound`, `corrupt`, `locked`, `cancelled`.
  public func answer(
    _ query: StoreQuery,
    arguments: [String: String] = [:],
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> QueryResult {
    try readInterruptibly(control: control) { database in
      try StoreSchema.requireViews(database)
      let arguments = try query.arguments(arguments, in: database)
      let statement = try database.makeStatement(sql: query.sql(in: database))
      statement.arguments = StatementArguments(
        Dictionary(uniqueKeysWithValues: arguments.map { ($0.name, $0.value.databaseValue) })
      )
      var result = QueryResult(
        arguments: arguments,
        columns: statement.columnNames,
        rows: [],
        isTruncated: false
      )
      var textByteCount = 0
      let rows = try Row.fetchCursor(statement)
      while let row = try query.explaining({ try rows.next() }) {
        guard result.rows.count < QueryResult.maximumRowCount else {
          result.isTruncated = true
          break
        }
        let values = try row.databaseValues.map(QueryValue.init)
        textByteCount += values.reduce(0) { $0 + $1.textByteCount }
        guard textByteCount <= QueryResult.maximumTextByteCount else {
          throw VMCheckpointError(
            .corrupt,
            "the answer has more than \(QueryResult.maximumTextByteCount) bytes of text",
            hint: "see what is hurt with: vmckpt verify"
          )
        }
        result.rows.append(values)
      }
      result.notes = try query.notes(arguments, in: database)
      return result
    }
  }

  /// The values that the SQL of `query` would see.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument`, `notFound`, `corrupt`, `locked`.
  public func resolve(
    _ arguments: [String: String],
    of query: StoreQuery
  ) throws(VMCheckpointError) -> [QueryArgument] {
    try read { try query.arguments(arguments, in: $0) }
  }

  /// The SQL of `query` as it runs in this store.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt`, `locked`.
  public func sql(of query: StoreQuery) throws(VMCheckpointError) -> String {
    try read { try query.sql(in: $0) }
  }

  /// The absolute path of the store's file, without symbolic links.
  package var filePath: String { location.file }

  /// The parameter `:snapshot` for the snapshot that `reference` names, as a query's would be.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument`, `notFound`, `corrupt`, `locked`.
  package func snapshotArgument(
    _ reference: SnapshotReference
  ) throws(VMCheckpointError) -> QueryArgument {
    try read { database in
      let name = try SnapshotCatalog.resolve(reference, in: database).name
      return QueryArgument(name: "snapshot", value: .text(name))
    }
  }

  /// Runs `body` in a read transaction that a cancellation ends soon, also in the midst of a
  /// statement.
  func readInterruptibly<Result>(
    control: OperationControl,
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    try withConnection(control: control) { database in
      try database.readOnly {
        var result: Result?
        try database.inTransaction(.deferred) {
          result = try body(database)
          return .commit
        }
        return result!
      }
    }
  }
}

extension StoreQuery {
  /// The tables of guests that the SQL asks, each with the parameter that names the snapshot.
  private var guestTables: [(table: String, parameter: String)] {
    var found: [(table: String, parameter: String)] = []
    for match in sql.matches(of: /(guest_[a-z]+)\((:[a-z]+)(?:, (:[a-z]+))?\)/) {
      // What changed is made of what the pages are at both moments.
      let table = match.1 == "guest_change" ? "guest_page" : String(match.1)
      for parameter in [match.2, match.3].compactMap({ $0 }).map({ String($0.dropFirst()) })
      where !found.contains(where: { $0.table == table && $0.parameter == parameter }) {
        found.append((table, parameter))
      }
    }
    return found
  }

  /// What those tables could not read: they are asked once more, each for all of its rows.
  fileprivate func notes(
    _ arguments: [QueryArgument],
    in database: Database
  ) throws -> [GuestNote] {
    var notes: [GuestNote] = []
    for (table, parameter) in guestTables {
      guard case .text(let name)? = arguments.first(where: { $0.name == parameter })?.value
      else { continue }
      // Of pages the first row has all that there is.
      let rows = table == "guest_page" ? "(SELECT note FROM \(table)(?) LIMIT 1)" : "\(table)(?)"
      let row = try explaining {
        try Row.fetchOne(
          database,
          sql: "SELECT count(note), min(note) FROM \(rows)",
          arguments: [name]
        )
      }
      guard let row, let text = row[1] as String? else { continue }
      notes.append(GuestNote(table: table, snapshot: name, rowCount: row[0], text: text))
    }
    return notes
  }

  /// Runs `body`. What a function says of a guest, such as that it has no kernel that can be read, does not mean
  /// that the store is damaged or cannot be read.
  fileprivate func explaining<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DatabaseError where needsFunctions && error.resultCode == .SQLITE_ERROR {
      throw VMCheckpointError(.notFound, error.message ?? "the guest cannot be read")
    }
  }

  private static let absentRanges = "SELECT snapshot_id, first_pfn, page_count FROM absent_range"

  /// A store in which no page was ever absent does not have the table of them.
  fileprivate func sql(in database: Database) throws -> String {
    guard try !database.tableExists("absent_range") else { return sql }
    return sql.replacing(Self.absentRanges, with: "SELECT 0, 0, 0 WHERE false")
  }
}

extension QueryValue {
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for a BLOB, which no query gives.
  fileprivate init(_ value: DatabaseValue) throws {
    switch value.storage {
    case .null: self = .null
    case .int64(let number): self = .integer(number)
    case .double(let number): self = number.isFinite ? .real(number) : .null
    case .string(let text): self = .text(text)
    case .blob:
      throw VMCheckpointError(
        .corrupt,
        "a row is damaged: it holds a value of another type",
        hint: "see what is hurt with: vmckpt verify"
      )
    }
  }

  fileprivate var databaseValue: DatabaseValue {
    switch self {
    case .null: .null
    case .integer(let number): number.databaseValue
    case .real(let number): number.databaseValue
    case .text(let text): text.databaseValue
    }
  }

  fileprivate var textByteCount: Int {
    if case .text(let text) = self { text.utf8.count } else { 0 }
  }
}
