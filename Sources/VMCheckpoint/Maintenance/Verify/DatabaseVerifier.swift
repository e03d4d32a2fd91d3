import GRDB
import GRDBSQLite

/// Checks the SQLite file as such.
enum DatabaseVerifier {
  private static let maximumMessageCount = 100

  /// SQLite's own integrity check, and whether the schema is this format's.
  static func problems(_ database: Database) throws -> [String] {
    var problems: [String] = []
    do {
      // Under the usual limit: the check reads no more of a BLOB than its length.
      problems = try String.fetchAll(
        database,
        sql: "PRAGMA integrity_check(\(maximumMessageCount))"
      ).filter { $0 != "ok" }
      if problems.contains(where: tellsOfDevice) {
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

  /// Whether a message of the integrity check is about a page that the device did not give: that is no
  /// damage of the file.
  private static func tellsOfDevice(_ message: String) -> Bool {
    // About an overflow page. SQLite has another message for a page number out of range.
    if message.contains("failed to get page") { return true }
    guard message.contains("unable to get the page"),
      let code = message.split(separator: "=").last.flatMap({ Int32($0) })
    else { return false }
    return code & 0xff == SQLITE_IOERR
  }

  private static func oneLine(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 ? " " : $0 }))
  }
}
