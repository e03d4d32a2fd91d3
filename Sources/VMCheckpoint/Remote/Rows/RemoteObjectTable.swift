import Foundation
import GRDB

/// Objects of a remote that never change, kept in the store: the rows of `remote_object`.
struct RemoteObjectTable {
  private let database: Database
  private let remoteID: Int64

  init(_ database: Database, remoteID: Int64) {
    self.database = database
    self.remoteID = remoteID
  }

  /// The keys that begin with `prefix`.
  func keys(_ prefix: String) throws -> Set<String> {
    try Set(
      String.fetchAll(
        database,
        sql: "SELECT key FROM remote_object WHERE remote_id = ? AND key >= ? AND key < ? || x'7f'",
        arguments: [remoteID, prefix, prefix]
      )
    )
  }

  func data(_ key: String) throws -> [UInt8]? {
    try ValueLimit.allowingLargeValues(database) {
      try Data.fetchOne(
        database,
        sql: "SELECT data FROM remote_object WHERE remote_id = ? AND key = ?",
        arguments: [remoteID, key]
      )
    }.map(Array.init)
  }

  func insert(_ key: String, _ data: [UInt8]) throws {
    try ValueLimit.allowingLargeValues(database) {
      try database.execute(
        sql: "INSERT OR REPLACE INTO remote_object (remote_id, key, data) VALUES (?, ?, ?)",
        arguments: [remoteID, key, Data(data)]
      )
    }
  }

  func remove(_ keys: some Sequence<String>) throws {
    for key in keys {
      try database.execute(
        sql: "DELETE FROM remote_object WHERE remote_id = ? AND key = ?",
        arguments: [remoteID, key]
      )
    }
  }
}
