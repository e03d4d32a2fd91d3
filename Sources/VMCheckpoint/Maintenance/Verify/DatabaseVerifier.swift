import GRDB
import GRDBSQLite

/// Checks the SQLite file as such.
enum DatabaseVerifier {
  private static let maximumMessageCount = 100

  /// SQLite's own integrity check, and whether the schema is this format's.
  ///
  /// - Parameter withChunkData: Whether all of the file is read; otherwise all tables but that which has the most of
  ///   it, and not the list of free pages.
  static func problems(_ database: Database, withChunkData: Bool = true) throws -> [String] {
    var problems: [String] = []
    do {
      // The check calls a page that the device did not give damaged, in various words.
      let failedReadCount = CombinedFile.failedReadCount(on: database.sqliteConnection)
      problems = try integrityProblems(database, withChunkData)
      // The check says so, and no more, when memory ran out for a page. Of a page that cannot be got for
      // another reason, it says so again.
      if problems.contains(where: {
        $0.contains("failed to get page") || $0.contains("get the page.")
      }) {
        problems = try integrityProblems(database, withChunkData)
      }
      if CombinedFile.failedReadCount(on: database.sqliteConnection) > failedReadCount {
        throw DatabaseError(resultCode: .SQLITE_IOERR, message: "disk I/O error")
      }
      problems += try StoreSchema.problems(database)
    } catch let error as DatabaseError where error.resultCode == .SQLITE_TOOBIG {
      problems.append("a row has a value that is longer than any of the format")
    } catch let error as DatabaseError where error.resultCode.isDamage {
      problems.append(error.message ?? "\(error.resultCode)")
    }
    return problems.map(oneLine)
  }

  /// What SQLite's check finds. Under the usual limit: it reads no more of a BLOB than its length.
  private static func integrityProblems(
    _ database: Database,
    _ withChunkData: Bool
  ) throws -> [String] {
    guard !withChunkData else {
      return try String.fetchAll(database, sql: "PRAGMA integrity_check(\(maximumMessageCount))")
        .filter { $0 != "ok" }
    }
    // By names that are the format's, since a user's own tables may have any.
    let tables =
      StoreFormat.tables.subtracting(["chunk_data"]).sorted()
      + (try StoreFormat.features(of: database).flatMap(\.tables))
    var problems: [String] = []
    for table in tables where problems.count < maximumMessageCount {
      problems += try String.fetchAll(database, sql: "PRAGMA integrity_check(\(table))")
        .filter { $0 != "ok" }
    }
    return Array(problems.prefix(maximumMessageCount))
  }

  private static func oneLine(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 ? " " : $0 }))
  }
}
