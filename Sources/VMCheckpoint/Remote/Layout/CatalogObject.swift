import Foundation
import GRDB
import GRDBSQLite

/// Summaries of the snapshots of a remote: the payload of a ``SealedObject``, a database of SQLite's with one table.
///
/// It saves readers from reading a manifest for each snapshot. It is a hint: a row counts for a manifest that the server
/// lists with the same key, size and time, and what a row says decides nothing but what is shown and which manifest is
/// read.
package enum CatalogObject {
  /// What is told of one manifest.
  package struct Row: Sendable, Hashable {
    package var key: RemoteKey
    package var byteCount: UInt64
    /// As the server lists it.
    package var modifiedSeconds: Int64
    package var summary: RemoteSnapshotSummary

    package init(
      key: RemoteKey,
      byteCount: UInt64,
      modifiedSeconds: Int64,
      summary: RemoteSnapshotSummary
    ) {
      self.key = key
      self.byteCount = byteCount
      self.modifiedSeconds = modifiedSeconds
      self.summary = summary
    }

    /// The manifest as the server lists it.
    var facts: RemoteObjectFacts {
      RemoteObjectFacts(
        key: key,
        byteCount: byteCount,
        modifiedSeconds: modifiedSeconds,
        serverSeconds: modifiedSeconds
      )
    }

    /// Of the year 9999: later times have another form as text.
    private static let lastSecond: Int64 = 253_402_300_799

    /// When the manifest was put, by the server's clock, to the end of that second and with milliseconds, as text
    /// that sorts.
    ///
    /// - Parameter lessSeconds: How much earlier.
    func timeOfPut(lessSeconds: Int64) -> String {
      let seconds = min(max(lessSeconds, modifiedSeconds), Self.lastSecond) - lessSeconds
      return "\(UTCTime.text(secondsSince1970: Int(seconds)).dropLast()).999Z"
    }

    /// Whether the server lists the manifest so.
    func isOf(_ facts: RemoteObjectFacts) -> Bool {
      (key, byteCount, modifiedSeconds) == (facts.key, facts.byteCount, facts.modifiedSeconds)
    }
  }

  /// Of half a million snapshots.
  package static let maximumByteCount: UInt64 = 256 << 20

  private static let table = """
    CREATE TABLE snapshot (
      manifest TEXT NOT NULL,
      manifest_bytes INTEGER NOT NULL,
      manifest_time INTEGER NOT NULL,
      uuid TEXT NOT NULL,
      name TEXT NOT NULL,
      vm TEXT NOT NULL,
      parent TEXT,
      completed_at TEXT NOT NULL,
      ram_bytes INTEGER NOT NULL,
      stored_pages INTEGER NOT NULL,
      packs INTEGER NOT NULL,
      device_states INTEGER NOT NULL,
      overlays INTEGER NOT NULL,
      tags TEXT NOT NULL,
      digest TEXT NOT NULL
    )
    """

  /// Makes the object.
  ///
  /// - Throws: ``VMCheckpointError``.
  package static func encode(_ rows: [Row]) throws(VMCheckpointError) -> [UInt8] {
    let payload = try translating { () throws -> [UInt8] in
      try DatabaseQueue().writeWithoutTransaction { database in
        try database.execute(sql: table)
        try database.inTransaction {
          let insert = try database.makeStatement(
            sql: "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
          )
          for row in rows { try insert.execute(arguments: try arguments(row)) }
          return .commit
        }
        var byteCount: sqlite3_int64 = 0
        guard let bytes = sqlite3_serialize(database.sqliteConnection, "main", &byteCount, 0) else {
          throw VMCheckpointError(
            .outOfResources,
            "the catalogue of a remote does not fit into memory"
          )
        }
        defer { sqlite3_free(bytes) }
        return Array(UnsafeBufferPointer(start: bytes, count: Int(byteCount)))
      }
    }
    return SealedObject.seal(.catalog, payload)
  }

  private static func arguments(_ row: Row) throws -> StatementArguments {
    let summary = row.summary
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let tags = String(decoding: try encoder.encode(summary.tags), as: UTF8.self)
    return [
      row.key.text, Int64(clamping: row.byteCount), row.modifiedSeconds, summary.uuid, summary.name,
      summary.vm, summary.parent, summary.completedAt, Int64(clamping: summary.ramByteCount),
      Int64(clamping: summary.storedPageCount), summary.packCount, summary.deviceStateCount,
      summary.overlayCount, tags, summary.digest,
    ]
  }

  /// Reads one.
  ///
  /// A stranger may have written the database. So it is read as one that nothing can be run from: its schema has to be
  /// the one above, letter by letter.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package static func decode(
    _ object: ArraySlice<UInt8>,
    title: String
  ) throws(VMCheckpointError) -> [Row] {
    let payload = try SealedObject.open(object, .catalog, title: title)
    let damage = VMCheckpointError.corrupt("\(title) is damaged")
    do {
      return try DatabaseQueue().writeWithoutTransaction { database in
        try load(payload, into: database)
        try database.execute(sql: "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
        let schema = try String.fetchAll(
          database,
          sql: "SELECT type || ' ' || name || ' ' || sql FROM sqlite_schema"
        )
        guard schema == ["table snapshot " + table] else { throw damage }
        var rows: [Row] = []
        let cursor = try GRDB.Row.fetchCursor(database, sql: "SELECT * FROM snapshot")
        while let row = try cursor.next() {
          guard let decoded = decode(row) else { throw damage }
          rows.append(decoded)
        }
        return rows
      }
    } catch let error as VMCheckpointError {
      throw error
    } catch {
      throw damage
    }
  }

  private static func load(_ payload: ArraySlice<UInt8>, into database: Database) throws {
    guard let memory = sqlite3_malloc64(UInt64(payload.count)) else {
      throw VMCheckpointError(.outOfResources, "the catalogue of a remote does not fit into memory")
    }
    payload.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    let count = sqlite3_int64(payload.count)
    let flags = UInt32(SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY)
    // It frees the memory when it fails, too.
    let code = sqlite3_deserialize(
      database.sqliteConnection,
      "main",
      memory.assumingMemoryBound(to: UInt8.self),
      count,
      count,
      flags
    )
    guard code == SQLITE_OK else { throw DatabaseError(resultCode: ResultCode(rawValue: code)) }
  }

  private static func decode(_ row: GRDB.Row) -> Row? {
    func text(_ column: String) -> String? { String.fromDatabaseValue(row[column]) }
    func number<Number: BinaryInteger>(_ column: String, _: Number.Type = Number.self) -> Number? {
      Int64.fromDatabaseValue(row[column]).flatMap { Number(exactly: $0) }
    }
    guard let key = text("manifest").flatMap({ RemoteKey($0) }),
      let byteCount = number("manifest_bytes", UInt64.self),
      let modifiedSeconds = number("manifest_time", Int64.self),
      let uuid = text("uuid"), let name = text("name"), let vm = text("vm"),
      let completedAt = text("completed_at"), let ramByteCount = number("ram_bytes", UInt64.self),
      let storedPageCount = number("stored_pages", UInt64.self),
      let packCount = number("packs", Int.self),
      let deviceStateCount = number("device_states", Int.self),
      let overlayCount = number("overlays", Int.self), let digest = text("digest"),
      let tags = text("tags").flatMap({
        try? JSONDecoder().decode([String: String].self, from: Data($0.utf8))
      })
    else { return nil }
    let summary = RemoteSnapshotSummary(
      uuid: uuid,
      name: name,
      vm: vm,
      parent: text("parent"),
      completedAt: completedAt,
      ramByteCount: ramByteCount,
      storedPageCount: storedPageCount,
      packCount: packCount,
      deviceStateCount: deviceStateCount,
      overlayCount: overlayCount,
      tags: tags,
      digest: digest
    )
    return Row(
      key: key,
      byteCount: byteCount,
      modifiedSeconds: modifiedSeconds,
      summary: summary
    )
  }

  private static func translating<Result>(
    _ body: () throws -> Result
  ) throws(VMCheckpointError) -> Result {
    do {
      return try body()
    } catch {
      throw VMCheckpointError(translating: error, storePath: "the catalogue of a remote")
    }
  }
}
