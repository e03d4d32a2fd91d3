import GRDB

/// Checks the rows that no digest covers.
///
/// - Those that describe snapshots and the store: names, times, parents, tags.
/// - The tables that are the same in every store.
/// - The page index.
enum CatalogVerifier {
  private static let maximumProblemCount = 100

  /// What is wrong, by subject.
  static func problems(_ database: Database) throws -> [(subject: String, message: String)] {
    var problems: [(subject: String, message: String)] = []
    let checks = [
      storeProblems, overlayKindProblems, snapshotProblems, orphanProblems, tagProblems,
      IndexVerifier.problems,
    ]
    for check in checks {
      do {
        problems += try check(database)
      } catch let error as DatabaseError where error.resultCode == .SQLITE_TOOBIG {
        problems.append(("database", "a row has a value that is longer than any of the format"))
      } catch let error as DatabaseError where error.resultCode.isDamage {
        problems.append(("database", error.message ?? "\(error.resultCode)"))
      } catch let error as VMCheckpointError where error.isDamage {
        problems.append(("database", error.message))
      }
    }
    return Array(problems.prefix(maximumProblemCount))
  }

  private static func storeProblems(
    _ database: Database
  ) throws -> [(subject: String, message: String)] {
    let rows = try Row.fetchAll(
      database,
      sql: "SELECT id, uuid, created_at, created_by FROM store LIMIT 2"
    )
    guard rows.count == 1, let row = rows.first else {
      return [("database", "table store has \(rows.isEmpty ? "no row" : "several rows"), not one")]
    }
    var problems: [(subject: String, message: String)] = []
    if !isUUID(try row.value("uuid")) {
      problems.append(("database", "the store's UUID is not a UUID"))
    }
    if !isTime(try row.value("created_at")) {
      problems.append(("database", "the time at which the store was made is not a time"))
    }
    if hasControlCharacters(try row.value("created_by")) {
      problems.append(("database", "what the store was made by holds control characters"))
    }
    return problems
  }

  private static func overlayKindProblems(
    _ database: Database
  ) throws -> [(subject: String, message: String)] {
    guard try !OverlayKindRows.areRight(database) else { return [] }
    return [("database", "table overlay_kind does not hold the kinds of this format")]
  }

  /// Rows of a snapshot that has lost its own: they keep chunks that nothing restores.
  private static func orphanProblems(
    _ database: Database
  ) throws -> [(subject: String, message: String)] {
    let tables =
      ["memory_region", "ram_extent", "overlay", "device_state", "snapshot_tag"]
      + (try StoreFormat.features(of: database).filter { $0 != .remotes }.flatMap(\.tables))
    return try tables.compactMap { table in
      let snapshotID = try Int64.fetchOne(
        database,
        sql: """
          SELECT snapshot_id FROM \(table)
           WHERE snapshot_id NOT IN (SELECT id FROM snapshot) LIMIT 1
          """
      )
      return snapshotID.map {
        ("database", "table \(table) has rows of snapshot \($0), whose own row is missing")
      }
    }
  }

  private static func snapshotProblems(
    _ database: Database
  ) throws -> [(subject: String, message: String)] {
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT s.id, s.uuid, s.name, s.vm, s.parent_id, s.started_at, s.completed_at, s.source,
               s.producer, p.id AS found_parent, p.state AS parent_state
          FROM snapshot s LEFT JOIN snapshot p ON p.id = s.parent_id
         WHERE s.state = 'complete' ORDER BY s.id
        """
    )
    var problems: [(subject: String, message: String)] = []
    while let row = try rows.next(), problems.count < maximumProblemCount {
      let name: String = try row.value("name")
      func note(_ message: String) { problems.append(("snapshot \(quotedName(name))", message)) }
      if !isValid(name) { note("its name breaks the rules for names") }
      if !isValid(try row.value("vm")) { note("its VM's name breaks the rules for names") }
      if !isUUID(try row.value("uuid")) { note("its UUID is not a UUID") }
      for column in ["started_at", "completed_at"] where !isTime(try row.value(column)) {
        note("its column \(column) is not a time")
      }
      for column in ["source", "producer"] where hasControlCharacters(try row.value(column)) {
        note("its column \(column) holds control characters")
      }
      guard let parentID: Int64 = try row.value("parent_id") else { continue }
      if try row.value("found_parent") as Int64? == nil {
        note("its parent, row \(parentID), is missing")
      } else if parentID >= (try row.value("id") as Int64) {
        note("its parent is not older than it is")
      } else if try row.value("parent_state") as String? != "complete" {
        note("its parent is not complete")
      }
    }
    return problems
  }

  private static func tagProblems(
    _ database: Database
  ) throws -> [(subject: String, message: String)] {
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT s.name, t.key, t.value
          FROM snapshot_tag t JOIN snapshot s ON s.id = t.snapshot_id WHERE s.state = 'complete'
        """
    )
    var problems: [(subject: String, message: String)] = []
    while let row = try rows.next(), problems.count < maximumProblemCount {
      let (name, key): (String, String) = (try row.value("name"), try row.value("key"))
      do throws(VMCheckpointError) {
        try SnapshotTag.check(key: key, value: try row.value("value"))
      } catch {
        problems.append(("snapshot \(quotedName(name))", error.message))
      }
    }
    return problems
  }

  private static func isValid(_ name: String) -> Bool {
    (try? SnapshotName.check(name)) != nil
  }

  private static func hasControlCharacters(_ text: String) -> Bool {
    text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7f }
  }

  private static func isUUID(_ text: String) -> Bool {
    let groups = text.split(separator: "-", omittingEmptySubsequences: false)
    return groups.map(\.utf8.count) == [8, 4, 4, 4, 12]
      && groups.allSatisfy { $0.allSatisfy { $0.isHexDigit && !$0.isUppercase } }
  }

  /// Whether `text` looks like `2026-03-01T09:30:00.125Z`.
  private static func isTime(_ text: String?) -> Bool {
    guard let text, text.utf8.count == 24 else { return false }
    return zip(text.utf8, "0000-00-00T00:00:00.000Z".utf8).allSatisfy { character, pattern in
      pattern == UInt8(ascii: "0")
        ? (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(character) : character == pattern
    }
  }
}
