import GRDB

/// Checks the SQLite file as such.
enum DatabaseVerifier {
  private static let maximumMessageCount = 100

  /// SQLite's own integrity check, and whether the schema is this format's.
  static func problems(_ database: Database) throws -> [String] {
    var problems: [String] = []
    do {
      problems = try String.fetchAll(
        database,
        sql: "PRAGMA integrity_check(\(maximumMessageCount))"
      ).filter { $0 != "ok" }
      problems += try schemaProblems(database)
    } catch let error as DatabaseError where error.resultCode.isDamage {
      problems.append(error.message ?? "\(error.resultCode)")
    }
    return problems.map(oneLine)
  }

  /// Tables, indexes and views that differ from those of a new store. A user's own additions are
  /// no problem.
  private static func schemaProblems(_ database: Database) throws -> [String] {
    let expected = try DatabaseQueue().write { fresh in
      try fresh.execute(sql: StoreFormat.migrations.map(\.sql).joined())
      return try definitions(fresh)
    }
    let actual = try definitions(database)
    return expected.compactMap { name, sql in
      guard let found = actual[name] else { return "\(name) is missing from the schema" }
      return found == sql ? nil : "the definition of \(name) is not that of the format"
    }.sorted()
  }

  private static func definitions(_ database: Database) throws -> [String: String] {
    try Row.fetchAll(
      database,
      sql: "SELECT type, name, coalesce(sql, '') AS sql FROM sqlite_schema WHERE sql IS NOT NULL"
    ).reduce(into: [:]) { definitions, row in
      let (type, name): (String, String) = (try row.value("type"), try row.value("name"))
      definitions["\(type) \(name)"] = try row.value("sql")
    }
  }

  private static func oneLine(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 ? " " : $0 }))
  }
}
