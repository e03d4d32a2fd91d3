import Foundation
import GRDB

/// Reads of the store what a manifest says of a snapshot beside its pages.
struct PushedFacts {
  private let database: Database
  private let snapshot: SnapshotRow
  private let layout: RAMLayout
  private let overlays: StoredOverlays

  init(
    _ database: Database,
    _ snapshot: SnapshotRow,
    layout: RAMLayout,
    overlays: StoredOverlays
  ) {
    self.database = database
    self.snapshot = snapshot
    self.layout = layout
    self.overlays = overlays
  }

  /// - Parameters:
  ///   - deviceStates: Where the parts of each are, in the VMM's order; `nil` where they have no places.
  ///   - place: Of a page that an overlay keeps.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `notFound`, or `DatabaseError`.
  func facts(
    deviceStates: [[ManifestFacts.Place]]?,
    place: (PageLocation) throws -> ManifestFacts.Place?
  ) throws -> ManifestFacts {
    let row = try Row.fetchOne(
      database,
      sql: """
        SELECT s.started_at, s.completed_at, s.source, s.producer, s.new_pages, s.new_stored_bytes,
               p.uuid AS parent_uuid, p.name AS parent_name
          FROM snapshot s LEFT JOIN snapshot p ON p.id = s.parent_id AND p.state = 'complete'
         WHERE s.id = ?
        """,
      arguments: [snapshot.id]
    )
    guard let row else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
    let parentUUID: String? = try row.optionalValue(at: 6)
    let parent = try parentUUID.map { uuid in
      ManifestFacts.Parent(uuid: uuid, name: try row.value(at: 7))
    }
    let workingSets = WorkingSetTable(database)
    let workingSet = try workingSets.summary(for: snapshot)
    return ManifestFacts(
      uuid: snapshot.uuid,
      name: snapshot.name,
      vm: snapshot.vm,
      parent: parent,
      startedAt: try row.value(at: 0),
      completedAt: try row.value(at: 1),
      source: try row.value(at: 2),
      producer: try row.value(at: 3),
      guestOSID: snapshot.guestOSID,
      cpuVendor: snapshot.cpuVendor,
      tscFrequencyHz: snapshot.tscFrequencyHz,
      ramBytes: snapshot.ramByteCount,
      storedPages: snapshot.storedPageCount,
      newPages: UInt64(clamping: try row.value(at: 4) as Int64),
      newStoredBytes: UInt64(clamping: try row.value(at: 5) as Int64),
      ramDigest: hexadecimal(snapshot.ramDigest),
      digest: hexadecimal(snapshot.digest),
      tags: try tags(),
      regions: layout.regions.map {
        .init(gpa: $0.gpa, bytes: $0.byteCount, fileOffset: $0.fileOffset, name: $0.name)
      },
      overlays: try overlays.entries.map { entry in
        .init(
          pfn: entry.overlay.pfn.rawValue,
          kind: entry.overlay.kind.rawValue,
          vp: entry.overlay.vp,
          parameters: entry.overlay.parametersJSON,
          baked: entry.isBaked,
          contents: try entry.contentsLocation.flatMap(place)
        )
      },
      overlayOrigin: try origin(),
      deviceStates: try states(deviceStates),
      workingSet: workingSet.map { .init($0) }
    )
  }

  private func tags() throws -> [String: String] {
    try Row.fetchAll(
      database,
      sql: "SELECT key, value FROM snapshot_tag WHERE snapshot_id = ?",
      arguments: [snapshot.id]
    ).reduce(into: [:]) { tags, row in
      let key: String = try row.value(at: 0)
      tags[key] = try row.value(at: 1)
    }
  }

  private func origin() throws -> String? {
    let features = try StoreFormat.features(of: database)
    guard features.contains(where: { $0.name == StoreFeature.overlayOrigins.name }) else {
      return nil
    }
    return try String.fetchOne(
      database,
      sql: "SELECT origin FROM overlay_origin WHERE snapshot_id = ?",
      arguments: [snapshot.id]
    )
  }

  private func states(
    _ places: [[ManifestFacts.Place]]?
  ) throws -> [ManifestFacts.DeviceState] {
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT name, format, version, bytes, sha256, encoding
          FROM device_state WHERE snapshot_id = ? ORDER BY position
        """,
      arguments: [snapshot.id]
    )
    let parts = places ?? rows.map { _ in [] }
    guard rows.count == parts.count else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
    return try zip(rows, parts).map { row, parts in
      .init(
        name: try row.value(at: 0),
        format: try row.value(at: 1),
        version: UInt32(clamping: try row.value(at: 2) as Int64),
        bytes: try row.value(at: 3),
        sha256: hexadecimal(try row.value(at: 4) as Data),
        encoding: try row.value(at: 5),
        parts: parts
      )
    }
  }
}
