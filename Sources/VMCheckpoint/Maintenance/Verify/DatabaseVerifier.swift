import GRDB

/// Checks the SQLite file as such.
enum DatabaseVerifier {
  private static let maximumMessageCount = 100

  /// SQLite's own integrity check, and whether the schema is this format's.
  static func problems(_ database: Database) throws -> [String] {
    var problems: [String] = []
    do {
      problems = try ValueLimit.allowingLargeValues(database) {
        try String.fetchAll(
          database,
          sql: "PRAGMA integrity_check(\(maximumMessageCount))"
        )
      }.filter { $0 != "ok" }
      problems += try StoreSchema.problems(database)
    } catch let error as DatabaseError where error.resultCode.isDamage {
      problems.append(error.message ?? "\(error.resultCode)")
    }
    return problems.map(oneLine)
  }

  private static func oneLine(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 ? " " : $0 }))
  }
}
