import Foundation
import GRDB

/// Which snapshots of a remote this store has seen: the rows of `remote_snapshot`.
struct RemoteSnapshotTable {
  private let database: Database
  private let remoteID: Int64

  init(_ database: Database, remoteID: Int64) {
    self.database = database
    self.remoteID = remoteID
  }

  /// The manifest of a snapshot, and the packs that it needs.
  struct Known {
    var manifest: String
    var packs: [RemoteID]
  }

  func insert(uuid: String, vm: String, manifest: RemoteKey, packs: [RemoteID]) throws {
    var writer = ByteWriter(capacity: packs.count * RemoteID.byteCount)
    for pack in packs { pack.append(to: &writer) }
    try ValueLimit.allowingLargeValues(database) {
      try database.execute(
        sql: """
          INSERT OR REPLACE INTO remote_snapshot (remote_id, uuid, manifest, vm, seen_at, packs)
          VALUES (?, ?, ?, ?, ?, ?)
          """,
        arguments: [remoteID, uuid, manifest.text, vm, UTCTime.now, Data(writer.bytes)]
      )
    }
  }

  func known(uuid: String) throws -> Known? {
    try fetch("uuid = ?", [uuid]).first
  }

  /// The snapshots of a VM that were seen last: what a push of its next one has most in common with.
  func newest(ofVM vm: String, count: Int) throws -> [Known] {
    try fetch("vm = ? ORDER BY seen_at DESC LIMIT \(count)", [vm])
  }

  func remove(uuid: String) throws {
    try database.execute(
      sql: "DELETE FROM remote_snapshot WHERE remote_id = ? AND uuid = ?",
      arguments: [remoteID, uuid]
    )
  }

  private func fetch(_ condition: String, _ arguments: StatementArguments) throws -> [Known] {
    try ValueLimit.allowingLargeValues(database) {
      try Row.fetchAll(
        database,
        sql:
          "SELECT manifest, packs FROM remote_snapshot WHERE remote_id = \(remoteID) AND \(condition)",
        arguments: arguments
      )
    }.map { row in
      let bytes = Array(try row.value(at: 1) as Data)
      var reader = ByteReader(bytes[...], title: "a row of remote_snapshot")
      var packs: [RemoteID] = []
      while reader.remainingByteCount > 0 { packs.append(try RemoteID(&reader)) }
      return Known(manifest: try row.value(at: 0), packs: packs)
    }
  }
}
