import GRDB

extension Store {
  /// Complete snapshots in the order of their saving; `vm` and `tags` narrow the list.
  ///
  /// - Throws: ``VMCheckpointError``.
  public func snapshots(
    vm: String? = nil,
    tags: [String: String] = [:]
  ) throws(VMCheckpointError) -> [SnapshotSummary] {
    try read { database in
      try Self.summaries(database, condition: vm == nil ? nil : "s.vm = ?", argument: vm)
        .filter { summary in tags.allSatisfy { summary.tags[$0.key] == $0.value } }
    }
  }

  /// Everything about one snapshot but its RAM.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`.
  public func snapshot(_ reference: SnapshotReference) throws(VMCheckpointError) -> SnapshotDetail {
    try read { database in
      let snapshot = try SnapshotCatalog.resolve(reference, in: database)
      let layout = try snapshot.layout(database)
      let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
      let absent = try snapshot.absentPages(database, in: layout)
      try snapshot.requireDigest(layout, absent, overlays, database)
      guard let summary = try Self.summary(database, of: snapshot),
        let row = try Row.fetchOne(
          database,
          sql: "SELECT source, producer, cpu_vendor, tsc_frequency_hz FROM snapshot WHERE id = ?",
          arguments: [snapshot.id]
        )
      else { throw VMCheckpointError(.corrupt, "\(snapshot.title) cannot be read") }
      return SnapshotDetail(
        summary: summary,
        source: try row.value("source"),
        producer: try row.value("producer"),
        cpuVendor: (try row.value("cpu_vendor") as String?).flatMap(CPUVendor.init(rawValue:)),
        tscFrequencyHz: (try row.value("tsc_frequency_hz") as Int64?).map { UInt64(clamping: $0) },
        regions: layout.regions,
        absentPageCount: absent.pageCount,
        children: try String.fetchAll(
          database,
          sql: """
            SELECT name FROM snapshot WHERE parent_id = ? AND state = 'complete' ORDER BY id
            """,
          arguments: [snapshot.id]
        ),
        overlays: overlays.bareDocument(),
        overlayOrigin: overlays.entries.isEmpty
          ? nil
          : try Self.overlayOrigin(database, of: snapshot) ?? SnapshotDetail.describedOverlays,
        deviceStates: try Self.deviceStates(database, snapshotID: snapshot.id),
        workingSet: try WorkingSetTable(database).summary(for: snapshot)
      )
    }
  }

  /// Sets tags, and removes those whose keys are in `removing`; returns the snapshot afterwards.
  ///
  /// - Throws: ``VMCheckpointError``; no tag is changed then.
  public func tag(
    _ reference: SnapshotReference,
    setting tags: [String: String],
    removing keys: [String] = []
  ) throws(VMCheckpointError) -> SnapshotSummary {
    for (key, value) in tags { try SnapshotTag.check(key: key, value: value) }
    return try writeOnFullDisk { database in
      let snapshot = try SnapshotCatalog.resolve(reference, in: database)
      for key in keys {
        try database.execute(
          sql: "DELETE FROM snapshot_tag WHERE snapshot_id = ? AND key = ?",
          arguments: [snapshot.id, key]
        )
        guard database.changesCount == 1 else {
          throw VMCheckpointError(
            .notFound,
            "\(snapshot.title) has no tag \(quotedName(key))"
          )
        }
      }
      for (key, value) in tags {
        try database.execute(
          sql: """
            INSERT INTO snapshot_tag (snapshot_id, key, value) VALUES (?, ?, ?)
              ON CONFLICT DO UPDATE SET value = excluded.value
            """,
          arguments: [snapshot.id, key, value]
        )
      }
      guard let summary = try Self.summary(database, of: snapshot) else {
        throw VMCheckpointError(.corrupt, "\(snapshot.title) cannot be read")
      }
      return summary
    }
  }

  /// A snapshot's device states with their data, in the VMM's order.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, and `corrupt` when a SHA-256 is not right.
  public func deviceStates(
    of reference: SnapshotReference
  ) throws(VMCheckpointError) -> [DeviceState] {
    try read { database in
      try DeviceStateRow.load(of: SnapshotCatalog.resolve(reference, in: database), database)
    }
  }

  /// What the save of the snapshot found its overlays in, if it did.
  private static func overlayOrigin(
    _ database: Database,
    of snapshot: SnapshotRow
  ) throws -> String? {
    guard try StoreFormat.features(of: database).contains(.overlayOrigins) else { return nil }
    return try Row.fetchOne(
      database,
      sql: "SELECT origin FROM overlay_origin WHERE snapshot_id = ?",
      arguments: [snapshot.id]
    )?.value("origin")
  }

  private static func deviceStates(
    _ database: Database,
    snapshotID: Int64
  ) throws -> [DeviceStateSummary] {
    try Row.fetchAll(
      database,
      sql: """
        SELECT name, format, version, bytes, length(data) AS stored_bytes,
               lower(hex(sha256)) AS sha256
          FROM device_state WHERE snapshot_id = ? ORDER BY position
        """,
      arguments: [snapshotID]
    ).map { row in
      DeviceStateSummary(
        name: try row.value("name"),
        format: try row.value("format"),
        version: UInt32(clamping: try row.value("version") as Int64),
        byteCount: UInt64(clamping: try row.value("bytes") as Int64),
        storedByteCount: UInt64(clamping: try row.value("stored_bytes") as Int64),
        sha256: try row.value("sha256")
      )
    }
  }

  private static func summary(
    _ database: Database,
    of snapshot: SnapshotRow
  ) throws -> SnapshotSummary? {
    try summaries(database, condition: "s.id = ?", argument: snapshot.id).first
  }

  private static func summaries(
    _ database: Database,
    condition: String?,
    argument: (any DatabaseValueConvertible)?
  ) throws -> [SnapshotSummary] {
    let filter = condition.map { " AND \($0)" } ?? ""
    let arguments = argument.map { StatementArguments([$0]) } ?? StatementArguments()
    var tags: [Int64: [String: String]] = [:]
    let tagRows = try Row.fetchCursor(
      database,
      sql: """
        SELECT t.snapshot_id, t.key, t.value
          FROM snapshot_tag t JOIN snapshot s ON s.id = t.snapshot_id
         WHERE s.state = 'complete'\(filter)
        """,
      arguments: arguments
    )
    while let row = try tagRows.next() {
      let (key, value): (String, String) = (try row.value(at: 1), try row.value(at: 2))
      tags[try row.value(at: 0), default: [:]][key] = value
    }
    var summaries: [SnapshotSummary] = []
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT s.id, s.name, s.uuid, s.vm, p.name AS parent, s.started_at, s.completed_at,
               s.ram_bytes, s.stored_pages, s.new_pages, s.new_stored_bytes,
               (SELECT count(*) FROM overlay o WHERE o.snapshot_id = s.id) AS overlays,
               (SELECT count(*) FROM device_state d WHERE d.snapshot_id = s.id) AS device_states,
               lower(hex(s.digest)) AS digest
          FROM snapshot s LEFT JOIN snapshot p ON p.id = s.parent_id
         WHERE s.state = 'complete'\(filter) ORDER BY s.id
        """,
      arguments: arguments
    )
    while let row = try rows.next() {
      func count(_ index: Int) throws -> UInt64 {
        UInt64(clamping: try row.value(at: index) as Int64)
      }
      summaries.append(
        try SnapshotSummary(
          name: try row.value(at: 1),
          uuid: try row.value(at: 2),
          vm: try row.value(at: 3),
          parent: try row.optionalValue(at: 4),
          startedAt: try row.value(at: 5),
          completedAt: try row.value(at: 6),
          ramByteCount: count(7),
          storedPageCount: count(8),
          newPageCount: count(9),
          newStoredByteCount: count(10),
          overlayCount: try row.value(at: 11),
          deviceStateCount: try row.value(at: 12),
          tags: tags[try row.value(at: 0)] ?? [:],
          digest: try row.value(at: 13)
        )
      )
    }
    return summaries
  }
}
