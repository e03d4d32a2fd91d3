import GRDB
import GRDBSQLite

/// Removes large device states of snapshots that nobody sees, with small journals.
///
/// A row goes in one transaction, which keeps in the journal, and in memory, all that it overwrites: of a device state of
/// half a gigabyte as much. So the bytes become zeros before, in several transactions, and then the row's pages need not
/// be overwritten again.
enum LargeDeviceStates {
  /// Overwritten in one transaction; a shorter one goes as a whole.
  private static let stepByteCount = 4 << 20

  /// Overwrites and deletes those of the snapshot `id`, which must be invisible, that are longer than a step.
  ///
  /// - Throws: ``VMCheckpointError`` when cancelled, or `DatabaseError`. Some may be gone, and some be zeros in part.
  static func erase(
    of id: Int64,
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws {
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT d.rowid AS row, length(data) AS bytes FROM device_state d
          JOIN snapshot s ON s.id = d.snapshot_id AND s.state = 'writing'
         WHERE snapshot_id = ? AND length(data) > \(stepByteCount)
        """,
      arguments: [id]
    )
    for row in rows {
      let (rowID, byteCount): (Int64, Int) = (try row.value("row"), try row.value("bytes"))
      var offset = 0
      var batch = SpaceBoundedBatch(count: stepByteCount)
      while offset < byteCount {
        try cancellation.check()
        try batch.run { count in
          let length = min(count, byteCount - offset)
          try database.inTransaction(.immediate) {
            try zero(rowID, offset, length, database)
            return .commit
          }
          offset += length
        }
      }
      // They are zeros by now.
      try database.execute(sql: "PRAGMA secure_delete = OFF")
      defer { try? database.execute(sql: "PRAGMA secure_delete = ON") }
      try database.inTransaction(.immediate) {
        try database.execute(
          sql: """
            DELETE FROM device_state WHERE rowid = ?1 AND EXISTS (
              SELECT 1 FROM snapshot s WHERE s.id = snapshot_id AND s.state = 'writing')
            """,
          arguments: [rowID]
        )
        return .commit
      }
    }
  }

  private static func zero(
    _ rowID: Int64,
    _ offset: Int,
    _ byteCount: Int,
    _ database: Database
  ) throws {
    var blob: OpaquePointer?
    func check(_ code: Int32) throws {
      guard code == SQLITE_OK else {
        throw DatabaseError(
          resultCode: ResultCode(rawValue: code),
          message: String(cString: sqlite3_errmsg(database.sqliteConnection))
        )
      }
    }
    try check(
      sqlite3_blob_open(database.sqliteConnection, "main", "device_state", "data", rowID, 1, &blob)
    )
    defer { sqlite3_blob_close(blob) }
    let zeros = [UInt8](repeating: 0, count: 64 << 10)
    var written = 0
    while written < byteCount {
      let length = min(zeros.count, byteCount - written)
      try check(sqlite3_blob_write(blob, zeros, Int32(length), Int32(offset + written)))
      written += length
    }
  }
}
