import GRDB

extension Store {
  /// What is different in snapshot `b` as against `a`. Reads no page data.
  ///
  /// - Parameter maximumRangeCount: How many ranges of each class to list; all are counted.
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`, `locked`, `cancelled`.
  public func diff(
    _ a: SnapshotReference,
    _ b: SnapshotReference,
    maximumRangeCount: Int = .max,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> SnapshotDiff {
    try readInterruptibly(control: control) { database in
      let left = try SnapshotCatalog.resolve(a, in: database)
      let right = try SnapshotCatalog.resolve(b, in: database)
      var pages = PageDiff(maximumRangeCount: maximumRangeCount)
      try pages.run(database, left, right, cancellation: control.cancellation)
      return SnapshotDiff(
        a: left.name,
        b: right.name,
        absent: pages.absent.finish(),
        added: pages.added.finish(),
        zeroed: pages.zeroed.finish(),
        changed: pages.changed.finish(),
        unchangedPageCount: pages.unchangedPageCount,
        overlays: try Self.overlayChanges(database, left, right),
        deviceStates: try Self.deviceStateChanges(database, left, right),
        regions: try Self.regionChanges(database, left, right),
        guestOSID: left.guestOSID == right.guestOSID
          ? nil : ValueChange(a: left.guestOSID, b: right.guestOSID),
        isIdentical: left.digest == right.digest
      )
    }
  }

  private static func overlayChanges(
    _ database: Database,
    _ a: SnapshotRow,
    _ b: SnapshotRow
  ) throws -> [OverlayChange] {
    struct Key: Hashable {
      var pfn: PFN
      var kind: OverlayKind
      var vp: UInt32
    }
    func entries(_ snapshot: SnapshotRow) throws -> [Key: StoredOverlays.Entry] {
      let layout = try snapshot.layout(database)
      let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
      let absent = try snapshot.absentPages(database, in: layout)
      try snapshot.requireDigest(layout, absent, overlays, database)
      return Dictionary(
        overlays.entries.map {
          (Key(pfn: $0.overlay.pfn, kind: $0.overlay.kind, vp: $0.overlay.vp), $0)
        },
        uniquingKeysWith: { first, _ in first }
      )
    }
    return try changes(entries(a), entries(b)) {
      $0.overlay == $1.overlay && $0.isBaked == $1.isBaked
    }
    .map { change, key in
      OverlayChange(change: change, pfn: key.pfn.rawValue, kind: key.kind, vp: key.vp)
    }
    .sorted { ($0.pfn, $0.kind.priority, $0.vp) < ($1.pfn, $1.kind.priority, $1.vp) }
  }

  private static func deviceStateChanges(
    _ database: Database,
    _ a: SnapshotRow,
    _ b: SnapshotRow
  ) throws -> [DeviceStateChange] {
    func states(_ snapshot: SnapshotRow) throws -> [String: [DatabaseValue]] {
      try Row.fetchAll(
        database,
        sql: "SELECT name, format, version, sha256 FROM device_state WHERE snapshot_id = ?",
        arguments: [snapshot.id]
      ).reduce(into: [:]) { states, row in
        states[try row.value("name")] = Array(row.databaseValues)
      }
    }
    return try changes(states(a), states(b), areEqual: ==)
      .map { DeviceStateChange(change: $0, name: $1) }
      .sorted { $0.name < $1.name }
  }

  private static func regionChanges(
    _ database: Database,
    _ a: SnapshotRow,
    _ b: SnapshotRow
  ) throws -> [MemoryRegionChange] {
    func regions(_ snapshot: SnapshotRow) throws -> [UInt64: MemoryRegion] {
      try snapshot.layout(database).regions.reduce(into: [:]) { $0[$1.gpa] = $1 }
    }
    let (left, right) = (try regions(a), try regions(b))
    return changes(left, right, areEqual: ==)
      .compactMap { change, gpa in
        (right[gpa] ?? left[gpa]).map { MemoryRegionChange(change: change, region: $0) }
      }
      .sorted { $0.region.gpa < $1.region.gpa }
  }

  private static func changes<Key, Value>(
    _ a: [Key: Value],
    _ b: [Key: Value],
    areEqual: (Value, Value) -> Bool
  ) -> [(ChangeKind, Key)] {
    a.compactMap { key, value in
      guard let other = b[key] else { return (.removed, key) }
      return areEqual(value, other) ? nil : (.changed, key)
    } + b.keys.filter { a[$0] == nil }.map { (.added, $0) }
  }
}
