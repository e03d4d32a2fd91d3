import GRDB

/// What a database's header tells of its owner, read without changing anything: opening another
/// program's database as usual may write to it, to undo what its program had begun.
///
/// SQLite reads it, and not this process by itself: closing a descriptor of its own would drop the
/// locks that SQLite holds on the file for another ``Store`` object. (SQLite, "How To Corrupt An
/// SQLite Database File", 2.2.)
struct DatabaseHeader {
  private let applicationID: Int32
  private let userVersion: Int32
  private let pageByteCount: Int64
  private let isEmpty: Bool

  /// The header of the file at `path`; `nil` when it is no SQLite database or cannot be read.
  init?(path: String) {
    var configuration = Configuration()
    configuration.readonly = true
    // Immutable: no locks, no journal, no write-ahead log.
    let uri = "file:\(Self.escaped(path))?immutable=1"
    guard let queue = try? DatabaseQueue(path: uri, configuration: configuration),
      let values = try? queue.read({ database in
        (
          try Int32.fetchOne(database, sql: "PRAGMA application_id"),
          try Int32.fetchOne(database, sql: "PRAGMA user_version"),
          try Int64.fetchOne(database, sql: "PRAGMA page_size"),
          try Bool.fetchOne(database, sql: "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)")
        )
      }),
      let applicationID = values.0, let userVersion = values.1, let pageByteCount = values.2,
      let isEmpty = values.3
    else { return nil }
    self.applicationID = applicationID
    self.userVersion = userVersion
    self.pageByteCount = pageByteCount
    self.isEmpty = isEmpty
  }

  /// Whether this is a store, or what is left when making one was cut short.
  var mayBeStore: Bool {
    applicationID == StoreFormat.applicationID
      || (applicationID == 0 && userVersion == 0 && isEmpty
        && pageByteCount == StoreFormat.databasePageByteCount)
  }

  /// What has a meaning in a URI, escaped.
  private static func escaped(_ path: String) -> String {
    var result = ""
    for scalar in path.unicodeScalars {
      switch scalar {
      case "%": result += "%25"
      case "?": result += "%3f"
      case "#": result += "%23"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
