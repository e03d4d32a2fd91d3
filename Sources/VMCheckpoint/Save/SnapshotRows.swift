import Foundation
import GRDB

/// Writes the rows of a snapshot that comes into the store: saved, fetched from a remote or copied from another store.
struct SnapshotRows {
  private let database: Database
  let snapshotID: Int64

  init(_ database: Database, snapshotID: Int64) {
    self.database = database
    self.snapshotID = snapshotID
  }

  /// What is known of a snapshot when its first row is written.
  struct Beginning {
    var uuid: String
    var name: String
    var vm: String
    var parentID: Int64?
    var startedAt: String
    var source: String
    var producer: String
    var ramByteCount: UInt64
    var tags: [String: String]
  }

  /// Inserts the snapshot in state `writing`, in the caller's transaction. Readers do not see it.
  static func begin(_ database: Database, _ beginning: Beginning) throws -> SnapshotRows {
    try database.execute(
      sql: """
        INSERT INTO snapshot
          (uuid, name, vm, parent_id, state, started_at, source, producer, ram_bytes)
        VALUES (?, ?, ?, ?, 'writing', ?, ?, ?, ?)
        """,
      arguments: [
        beginning.uuid, beginning.name, beginning.vm, beginning.parentID, beginning.startedAt,
        withoutControls(beginning.source), withoutControls(beginning.producer),
        Int64(clamping: beginning.ramByteCount),
      ]
    )
    let rows = SnapshotRows(database, snapshotID: database.lastInsertedRowID)
    for (key, value) in beginning.tags {
      try database.execute(
        sql: "INSERT INTO snapshot_tag (snapshot_id, key, value) VALUES (?, ?, ?)",
        arguments: [rows.snapshotID, key, value]
      )
    }
    return rows
  }

  /// Whether a snapshot of the store has the name, complete or not.
  static func isUsed(_ name: String, _ database: Database) throws -> Bool {
    try Bool.fetchOne(
      database,
      sql: "SELECT EXISTS (SELECT 1 FROM snapshot WHERE name = ?)",
      arguments: [name]
    ) ?? false
  }

  /// Inserts a snapshot for what is read while a guest runs, which stays in state `writing`. Its name has a space,
  /// which no snapshot's name has that somebody gave.
  static func beginCandidates(
    _ database: Database,
    vm: String
  ) throws -> (id: Int64, uuid: String) {
    let uuid = UniqueID.make()
    try database.inTransaction(.immediate) {
      try database.execute(
        sql: """
          INSERT INTO snapshot (uuid, name, vm, state, started_at, source, producer, ram_bytes)
          VALUES (?, ?, ?, 'writing', ?, ?, ?, ?)
          """,
        arguments: [
          uuid, "candidates \(uuid)", vm, UTCTime.now, "candidates", VMCheckpointVersion.producer,
          Page.byteCount,
        ]
      )
      return .commit
    }
    return (database.lastInsertedRowID, uuid)
  }

  /// A path with its control characters as `\u{a}`: rows are shown on terminals.
  static func withoutControls(_ text: String) -> String {
    text.unicodeScalars.reduce(into: "") { result, scalar in
      if scalar.value < 0x20 || scalar.value == 0x7f {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }

  func insert(_ layout: RAMLayout, digester: inout SnapshotDigester) throws {
    for region in layout.regions {
      try database.execute(
        sql: """
          INSERT INTO memory_region (snapshot_id, gpa, bytes, file_offset, name)
          VALUES (?, ?, ?, ?, ?)
          """,
        arguments: [
          snapshotID, Int64(region.gpa), Int64(region.byteCount), Int64(region.fileOffset),
          region.name,
        ]
      )
      digester.add(region)
    }
  }

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when a stored page is among them, or
  ///   `DatabaseError`.
  func insert(_ absent: AbsentPages, digester: inout SnapshotDigester) throws {
    guard !absent.isEmpty else { return }
    try StoreFormat.add(.absentRanges, database)
    let insert = try HotStatement(
      database,
      "INSERT INTO absent_range (snapshot_id, first_pfn, page_count) VALUES (?, ?, ?)"
    )
    for run in absent.runs {
      insert.bind(snapshotID, at: 1)
      insert.bind(Int64(run.lowerBound), at: 2)
      insert.bind(Int64(run.count), at: 3)
      try insert.run()
    }
    digester.add(absent)
    guard try !holdsAbsentPages() else {
      throw VMCheckpointError(.corrupt, "the source has data for a page that it leaves out")
    }
  }

  /// Whether an extent of the snapshot has pages in one of its absent ranges.
  private func holdsAbsentPages() throws -> Bool {
    try Bool.fetchOne(
      database,
      sql: """
        SELECT EXISTS (
          SELECT 1 FROM absent_range a
            JOIN ram_extent e ON e.snapshot_id = a.snapshot_id
             AND e.first_pfn BETWEEN a.first_pfn - 15 AND a.first_pfn + a.page_count - 1
             AND e.first_pfn + e.page_count > a.first_pfn
           WHERE a.snapshot_id = ?)
        """,
      arguments: [snapshotID]
    ) ?? false
  }

  /// - Parameter contents: Where each stored contents page is; a zero page is nowhere.
  func insert(
    _ plan: OverlayPlan,
    contents: [PageContents: PageLocation],
    digester: inout SnapshotDigester
  ) throws {
    try OverlayKindRows.require(Set(plan.stacks.flatMap { $0.overlays.map(\.kind) }), database)
    for stack in plan.stacks {
      let baked = stack.underlay == .unknown
      for overlay in stack.overlays {
        let stored = overlay.kind.storesContents ? overlay.contents() : nil
        let location = stored.flatMap { contents[$0] }
        let parametersJSON = overlay.parametersJSON
        try insertOverlay(
          pfn: overlay.pfn.rawValue,
          kind: overlay.kind,
          vp: overlay.vp,
          parametersJSON: parametersJSON,
          contents: location,
          isBaked: baked
        )
        digester.add(
          pfn: overlay.pfn.rawValue,
          kind: overlay.kind.rawValue,
          vp: overlay.vp,
          baked: baked,
          parametersJSON: parametersJSON,
          contents: stored.map { $0.withUnsafeBytes { PageDigest(of: $0) } }
        )
      }
    }
  }

  /// Inserts an overlay whose kind ``OverlayKindRows`` has.
  ///
  /// - Parameter contents: Where its stored page is; `nil` for derived contents, and for a page of zeros.
  func insertOverlay(
    pfn: UInt64,
    kind: OverlayKind,
    vp: UInt32,
    parametersJSON: String,
    contents: PageLocation?,
    isBaked: Bool
  ) throws {
    try database.execute(
      sql: """
        INSERT INTO overlay
          (snapshot_id, pfn, kind, vp, parameters, contents_chunk_id, contents_slot, baked)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
      arguments: [
        snapshotID, Int64(clamping: pfn), kind.rawValue, Int64(vp), parametersJSON,
        contents?.chunkID, contents.map { Int64($0.slot) }, isBaked,
      ]
    )
  }

  /// - Parameter origin: What the overlays were found in.
  func insert(overlayOrigin origin: String) throws {
    try StoreFormat.add(.overlayOrigins, database)
    try database.execute(
      sql: "INSERT INTO overlay_origin (snapshot_id, origin) VALUES (?, ?)",
      arguments: [snapshotID, origin]
    )
  }

  func insert(_ states: [DeviceState], digester: inout SnapshotDigester) throws {
    for (position, state) in states.enumerated() {
      let encoded = try DeviceStateCodec.encode(state.data)
      try insertDeviceState(
        at: position,
        name: state.name,
        format: state.format,
        version: state.version,
        byteCount: Int64(state.data.count),
        encoded
      )
      digester.add(
        deviceStateNamed: state.name,
        format: state.format,
        version: state.version,
        byteCount: UInt64(state.data.count),
        sha256: Array(encoded.sha256)
      )
    }
  }

  /// - Parameter byteCount: Before compression.
  func insertDeviceState(
    at position: Int,
    name: String,
    format: String,
    version: UInt32,
    byteCount: Int64,
    _ encoded: DeviceStateCodec.Encoded
  ) throws {
    try ValueLimit.allowingLargeValues(database) {
      try database.execute(
        sql: """
          INSERT INTO device_state
            (snapshot_id, position, name, format, version, bytes, sha256, encoding, data)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
          """,
        arguments: [
          snapshotID, position, name, format, Int64(version), byteCount, encoded.sha256,
          encoded.encoding, encoded.data,
        ]
      )
    }
  }

  /// What is known of a snapshot when all of its pages are stored.
  struct Completion {
    var completedAt: String
    var guestOSID: String?
    var cpuVendor: String?
    var tscFrequencyHz: Int64?
    var ramByteCount: UInt64
    /// Of all extents.
    var tally: ExtentTally
    var newPageCount: UInt64
    var newStoredByteCount: UInt64
    var ramDigest: Data
    var digest: Data
  }

  /// The last write: what makes the snapshot exist.
  func complete(_ completion: Completion) throws {
    try database.execute(
      sql: """
        UPDATE snapshot SET
          state = 'complete', completed_at = ?, guest_os_id = ?, cpu_vendor = ?,
          tsc_frequency_hz = ?, ram_bytes = ?, stored_pages = ?, ram_checksum = ?, new_pages = ?,
          new_stored_bytes = ?, ram_digest = ?, digest = ?
        WHERE id = ? AND state = 'writing'
        """,
      arguments: [
        completion.completedAt, completion.guestOSID, completion.cpuVendor,
        completion.tscFrequencyHz, Int64(clamping: completion.ramByteCount),
        Int64(completion.tally.pageCount), Int64(bitPattern: completion.tally.checksum),
        Int64(clamping: completion.newPageCount), Int64(clamping: completion.newStoredByteCount),
        completion.ramDigest, completion.digest, snapshotID,
      ]
    )
    guard database.changesCount == 1, try namesOnlyChunksThatExist() else {
      throw VMCheckpointError(
        .locked,
        "another process has removed what was written for the snapshot, or what it relied on",
        hint:
          "never remove a store's lock file, and try again; if the store is a copy that cp made of one in use, copy "
          + "anew with: vmckpt backup"
      )
    }
  }

  /// Whether every chunk that the snapshot's extents and overlays name is there. The locks see to
  /// that; but they can be broken, by a removed lock file, and a snapshot whose pages are gone must
  /// not count as saved.
  ///
  /// - Complexity: O(*n* log *m*) in the numbers of extents and chunks.
  private func namesOnlyChunksThatExist() throws -> Bool {
    try Bool.fetchOne(
      database,
      sql: """
        SELECT NOT EXISTS (
          SELECT 1
            FROM (SELECT DISTINCT chunk_id AS id FROM ram_extent WHERE snapshot_id = ?1
                  UNION
                  SELECT contents_chunk_id FROM overlay
                   WHERE snapshot_id = ?1 AND contents_chunk_id IS NOT NULL) AS used
           WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.id = used.id))
        """,
      arguments: [snapshotID]
    ) ?? false
  }
}

/// `0x` and sixteen lower-case hexadecimal digits: how the store keeps 64-bit values, which
/// SQLite's integers, being signed, would show wrongly.
func fixedWidthHexString(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
}
