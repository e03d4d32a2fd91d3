import GRDB
import VMCheckpointSchema

/// The definitions of a store's tables, indexes and views, as SQLite keeps them.
enum StoreSchema {
  /// By type and name, such as `view stored_page`.
  typealias Definitions = [String: String]

  /// With the tables of all features.
  private static let withFeatures = Result {
    try definitions(
      after: StoreFormat.migrations
        + StoreFeature.withTables.compactMap(\.sql).map { .init(version: 0, sql: $0) }
    )
  }

  /// The definitions of a store that `steps` make.
  private static func definitions(after steps: [StoreFormat.Migration]) throws -> Definitions {
    let queue = try DatabaseQueue()
    defer { ConnectionKeeper.retire(queue) }
    return try queue.write { fresh in
      for step in steps { try fresh.execute(sql: step.sql) }
      return try definitions(fresh)
    }
  }

  /// The definitions in `database` that differ from a new store's, each as a message. A user's own
  /// additions are no problem.
  ///
  /// - Parameter type: `view` for those of views alone.
  static func problems(_ database: Database, ofType type: String? = nil) throws -> [String] {
    let features = try StoreFormat.features(of: database)
    var right = try withFeatures.get()
    for feature in StoreFeature.withTables where !features.contains(feature) {
      for table in feature.tables { right["table \(table)"] = nil }
    }
    return try problems(database, ofType: type, comparedWith: right)
  }

  /// As ``problems(_:ofType:)``, compared with a store that `steps` make.
  static func problems(
    _ database: Database,
    after steps: [StoreFormat.Migration]
  ) throws -> [String] {
    try problems(database, ofType: nil, comparedWith: definitions(after: steps))
  }

  private static func problems(
    _ database: Database,
    ofType type: String?,
    comparedWith right: Definitions
  ) throws -> [String] {
    let actual = try definitions(database)
    return right.compactMap { name, sql in
      if let type, !name.hasPrefix("\(type) ") { return nil }
      guard let found = actual[name] else { return "\(name) is missing from the schema" }
      return found == sql ? nil : "the definition of \(name) is not that of the format"
    }.sorted()
  }

  /// Checks the views before anything is read through them: a store that was made to mislead could
  /// have others under their names, which answer wrongly, or never.
  ///
  /// Only what reads views calls this; snapshots do not need them.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`.
  static func requireViews(_ database: Database) throws {
    guard let problem = try problems(database, ofType: "view").first else { return }
    throw VMCheckpointError(
      .corrupt,
      problem,
      hint: "put back the views of the format's schema; snapshots do not depend on them"
    )
  }

  private static func definitions(_ database: Database) throws -> Definitions {
    try Row.fetchAll(
      database,
      sql: "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    ).reduce(into: [:]) { definitions, row in
      let (type, name): (String, String) = (try row.value("type"), try row.value("name"))
      definitions["\(type) \(name)"] = try row.value("sql")
    }
  }
}

extension Store {
  /// As for reading through the store's views.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when one is not the format's.
  package func requireViews() throws(VMCheckpointError) {
    try read { try StoreSchema.requireViews($0) }
  }
}
