import Foundation
import GRDB

/// The rows of a snapshot that comes from a remote, or from another store, as ``ManifestFacts`` describe it.
///
/// Written in the order of a save: its pages' extents, its device states; the snapshot's row turns complete last, when all
/// digests have been found right. Until then it does not exist for readers.
struct ImportedSnapshot {
  private let database: Database
  private let facts: ManifestFacts
  private let rows: SnapshotRows

  /// Begins a snapshot, in a transaction of its own. Its parent is the one that is here, if it is here.
  ///
  /// - Parameter name: What it is called in this store.
  /// - Throws: `DatabaseError`.
  init(_ database: Database, _ facts: ManifestFacts, name: String) throws {
    self.database = database
    self.facts = facts
    var rows: SnapshotRows?
    try database.inTransaction(.immediate) {
      let parentID = try facts.parent.flatMap {
        try ImportedSnapshot.snapshot(uuid: $0.uuid, database)?.id
      }
      rows = try SnapshotRows.begin(
        database,
        SnapshotRows.Beginning(
          uuid: facts.uuid,
          name: name,
          vm: facts.vm,
          parentID: parentID,
          startedAt: facts.startedAt,
          source: facts.source,
          producer: facts.producer,
          ramByteCount: facts.ramBytes,
          tags: facts.tags
        )
      )
      return .commit
    }
    self.rows = rows!
  }

  /// The complete snapshot with this UUID.
  static func snapshot(uuid: String, _ database: Database) throws -> SnapshotRow? {
    try SnapshotRow.fetchOne(
      database,
      sql:
        "SELECT \(SnapshotRow.columns) FROM snapshot s WHERE s.uuid = ? AND s.state = 'complete'",
      arguments: [uuid]
    )
  }

  /// Checks a name that a snapshot is to have here.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument`; `cannotCreate` when another snapshot has it. `DatabaseError`.
  static func requireUnused(_ name: String, _ database: Database) throws {
    try SnapshotName.check(name)
    guard try SnapshotRows.isUsed(name, database) else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "there is another snapshot \(quotedName(name)) here already",
      hint: "give the one that comes another name with --name"
    )
  }

  /// What writes its extents.
  func extentWriter() throws -> ExtentWriter {
    let checksums = try StoreSeed(database).extentChecksum
    return try ExtentWriter(
      database,
      snapshotID: rows.snapshotID,
      key: checksums.key(ofSnapshot: facts.uuid),
      checksums: checksums
    )
  }

  /// Checks the digest of the pages that came.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`.
  func requireRAMDigest(_ digest: [UInt8]) throws(VMCheckpointError) {
    guard hexadecimal(digest) != facts.ramDigest else { return }
    throw .corrupt(
      "the pages of snapshot \(quotedName(facts.name)) do not have the digest of its RAM"
    )
  }

  /// Inserts a device state, in a transaction of its own.
  ///
  /// - Parameter data: Its stored form.
  func insertDeviceState(
    at position: Int,
    _ state: ManifestFacts.DeviceState,
    _ data: Data
  ) throws {
    try database.inTransaction(.immediate) {
      try rows.insertDeviceState(
        at: position,
        name: state.name,
        format: state.format,
        version: state.version,
        byteCount: state.bytes,
        DeviceStateCodec.Encoded(
          encoding: state.encoding,
          data: data,
          sha256: Self.data(hexadecimal: state.sha256)
        )
      )
      return .commit
    }
  }

  /// Writes what is left, and makes the snapshot exist, in one transaction.
  ///
  /// - Parameters:
  ///   - tally: Of all extents.
  ///   - contents: Where the page of each overlay is.
  ///   - requireLocks: Called before the commit; throws when the locks that keep others away are not held any more.
  /// - Returns: The snapshot.
  /// - Throws: ``VMCheckpointError``: `corrupt` when it is not what the facts say, `unavailable` for an overlay of an
  ///   unknown kind, `locked`; or `DatabaseError`. The transaction may be open then.
  func finish(
    _ tally: ExtentTally,
    absent: AbsentPages,
    workingSet: [Range<UInt64>],
    contents: [PageLocation?],
    requireLocks: () throws -> Void = {}
  ) throws -> SnapshotRow {
    var digester = SnapshotDigester()
    let layout = try RAMLayout(
      regions: facts.regions.map {
        MemoryRegion(gpa: $0.gpa, byteCount: $0.bytes, fileOffset: $0.fileOffset, name: $0.name)
      }
    )
    try database.beginTransaction(.immediate)
    try rows.insert(layout, digester: &digester)
    try rows.insert(absent, digester: &digester)
    for (overlay, location) in zip(facts.overlays, contents) {
      guard let kind = OverlayKind(rawValue: overlay.kind) else {
        throw VMCheckpointError(
          .unavailable,
          "snapshot \(quotedName(facts.name)) has overlays of the kind \(quotedName(overlay.kind)), which "
            + "this vmckpt does not know",
          hint: "use the vmckpt that saved it, or a newer one"
        )
      }
      try OverlayKindRows.require([kind], database)
      try rows.insertOverlay(
        pfn: overlay.pfn,
        kind: kind,
        vp: overlay.vp,
        parametersJSON: overlay.parameters,
        contents: location,
        isBaked: overlay.baked
      )
    }
    if let origin = facts.overlayOrigin { try rows.insert(overlayOrigin: origin) }
    try complete(tally)
    guard let snapshot = try SnapshotCatalog.fetch(id: rows.snapshotID, in: database) else {
      throw VMCheckpointError(.locked, "the snapshot's row was removed while it was written")
    }
    let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    try snapshot.requireDigest(layout, absent, overlays, database)
    if let set = facts.workingSet {
      try WorkingSetTable(database).replace(
        of: snapshot,
        door: set.door,
        recordedAt: set.recordedAt,
        durationSeconds: set.durationSeconds,
        runs: workingSet
      )
    }
    try requireLocks()
    try database.commit()
    return snapshot
  }

  private func complete(_ tally: ExtentTally) throws {
    guard tally.pageCount == facts.storedPages else {
      throw VMCheckpointError.corrupt(
        "snapshot \(quotedName(facts.name)) has \(tally.pageCount) pages instead of "
          + "\(facts.storedPages)"
      )
    }
    try rows.complete(
      SnapshotRows.Completion(
        completedAt: facts.completedAt,
        guestOSID: facts.guestOSID,
        cpuVendor: facts.cpuVendor,
        tscFrequencyHz: facts.tscFrequencyHz,
        ramByteCount: facts.ramBytes,
        tally: tally,
        newPageCount: facts.newPages,
        newStoredByteCount: facts.newStoredBytes,
        ramDigest: Self.data(hexadecimal: facts.ramDigest),
        digest: Self.data(hexadecimal: facts.digest)
      )
    )
  }

  /// The bytes that hexadecimal digits stand for; none for what is not such a text.
  private static func data(hexadecimal text: String) -> Data {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0 else { return Data() }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard
        let byte = UInt8(String(decoding: digits[index..<(index + 2)], as: UTF8.self), radix: 16)
      else { return Data() }
      bytes.append(byte)
    }
    return Data(bytes)
  }
}
