import GRDB

/// What a database's header tells of its owner, read without changing anything: opening another
/// program's database as usual may write to it, to undo what its program had begun.
///
/// SQLite reads it, and not this process by itself: closing a descriptor of its own would drop the
/// locks that SQLite holds on the file for another ``Store`` object. (SQLite, "How To Corrupt An
/// SQLite Database File", 2.2.)
struct DatabaseHeader {
  private let applicationID: Int32

  /// The header of the file at `path`; `nil` when it is no SQLite database or cannot be read.
  init?(path: String) {
    var configuration = Configuration()
    configuration.readonly = true
    // Immutable: no locks, no journal, no write-ahead log.
    let uri = "file:\(Self.escaped(path))?immutable=1"
    guard let queue = try? DatabaseQueue(path: uri, configuration: configuration),
      let value = try? queue.read({ try Int32.fetchOne($0, sql: "PRAGMA application_id") })
    else { return nil }
    applicationID = value
  }

  /// Whether the database is a store, of whatever version.
  var isStore: Bool { applicationID == StoreFormat.applicationID }

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
