import Foundation
import GRDB

/// The device states of a snapshot in their stored form, in parts that fit into packs.
struct StoredDeviceParts {
  private let database: Database
  private let snapshot: SnapshotRow

  init(_ database: Database, _ snapshot: SnapshotRow) {
    self.database = database
    self.snapshot = snapshot
  }

  /// What `body` makes of each part, for each device state in the VMM's order. One part is in memory at a time.
  ///
  /// - Throws: What `body` throws; `corrupt` for an impossible row; `DatabaseError`.
  func map<Result>(_ body: ([UInt8]) throws -> Result) throws -> [[Result]] {
    try ValueLimit.allowingLargeValues(database) {
      let states = try Row.fetchAll(
        database,
        sql:
          "SELECT position, length(data) FROM device_state WHERE snapshot_id = ? ORDER BY position",
        arguments: [snapshot.id]
      )
      return try states.map { row in
        let position: Int64 = try row.value(at: 0)
        let byteCount: Int = try row.value(at: 1)
        let starts = stride(from: 0, to: byteCount, by: RemoteLimits.devicePartByteCount)
        return try starts.map { start in
          let part = try Data.fetchOne(
            database,
            sql: """
              SELECT substr(data, ?, ?) FROM device_state WHERE snapshot_id = ? AND position = ?
              """,
            arguments: [start + 1, RemoteLimits.devicePartByteCount, snapshot.id, position]
          )
          guard let part, !part.isEmpty else {
            throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
          }
          return try body(Array(part))
        }
      }
    }
  }
}
