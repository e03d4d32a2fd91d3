import Foundation
import GRDB

/// A device state as its row in the store describes it.
struct DeviceStateRow {
  let name: String
  let format: String
  let version: UInt32
  /// Of the bytes before compression; any number where the row is damaged.
  let byteCount: Int64
  /// Of the bytes before compression.
  let sha256: Data

  /// The stored form; `nil` unless it was asked for.
  private let stored: (encoding: String, data: Data)?

  /// Calls `body` with each device state of a snapshot, in the VMM's order.
  ///
  /// - Parameters:
  ///   - format: Only those of this format; `nil`: all.
  ///   - withData: Whether the stored form is read as well, which may be half a gigabyte.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for an impossible row, `DatabaseError`, or
  ///   what `body` throws.
  static func forEach(
    of snapshot: SnapshotRow,
    format: String? = nil,
    withData: Bool = false,
    _ database: Database,
    _ body: (DeviceStateRow) throws -> Void
  ) throws {
    func walk() throws {
      let rows = try Row.fetchCursor(
        try database.cachedStatement(
          sql: """
            SELECT name, format, version, bytes, sha256\(withData ? ", encoding, data" : "")
              FROM device_state
             WHERE snapshot_id = ?1 AND (?2 IS NULL OR format = ?2) ORDER BY position
            """
        ),
        arguments: [snapshot.id, format]
      )
      while let row = try rows.next() { try body(DeviceStateRow(row, withData: withData)) }
    }
    if withData { try ValueLimit.allowingLargeValues(database, walk) } else { try walk() }
  }

  /// The device states of a snapshot with their data, in the VMM's order; only that with `name` if it is given.
  ///
  /// - Throws: As ``forEach(of:format:withData:_:_:)`` and ``bytes()``.
  static func load(
    of snapshot: SnapshotRow,
    format: String? = nil,
    named name: String? = nil,
    _ database: Database
  ) throws -> [DeviceState] {
    var states: [DeviceState] = []
    try forEach(of: snapshot, format: format, withData: true, database) { row in
      // Bytes are compared: Swift calls more names equal.
      if let name, !name.utf8.elementsEqual(row.name.utf8) { return }
      states.append(
        DeviceState(
          name: row.name,
          format: row.format,
          version: row.version,
          data: try row.bytes()
        )
      )
    }
    return states
  }

  /// The stored form of one device state, by its place in the VMM's order, when it is proved to be whole.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`, or `notFound` when it is gone; `DatabaseError`.
  static func provenData(
    of snapshot: SnapshotRow,
    at position: Int,
    _ database: Database
  ) throws -> Data {
    try ValueLimit.allowingLargeValues(database) {
      let row = try Row.fetchOne(
        database,
        sql: """
          SELECT name, format, version, bytes, sha256, encoding, data
            FROM device_state WHERE snapshot_id = ? ORDER BY position LIMIT 1 OFFSET ?
          """,
        arguments: [snapshot.id, position]
      )
      guard let row else {
        throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
      }
      let state = try DeviceStateRow(row, withData: true)
      _ = try state.bytes()
      return state.stored!.data
    }
  }

  private init(_ row: Row, withData: Bool) throws(VMCheckpointError) {
    name = try row.value("name")
    format = try row.value("format")
    version = UInt32(clamping: try row.value("version") as Int64)
    byteCount = try row.value("bytes")
    sha256 = try row.value("sha256")
    stored = withData ? (try row.value("encoding"), try row.value("data")) : nil
  }

  /// The bytes before compression.
  ///
  /// - Precondition: The row was read with its data.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when length or SHA-256 are not right.
  func bytes() throws(VMCheckpointError) -> [UInt8] {
    try DeviceStateCodec.decode(
      stored!.data,
      encoding: stored!.encoding,
      byteCount: byteCount,
      sha256: sha256,
      name: name
    )
  }
}
