import Foundation
import GRDB

/// One fetch: the facts of a remote's snapshot become rows of the store, without its pages.
///
/// Written in the order of a save: chunks' rows and the index, extents, overlays, device states; the snapshot's row turns
/// complete last, when its digests have been found right. Overlays' stored pages and device states come with their data,
/// since what describes a machine is read from them.
struct FetchOperation {
  /// Extents written in one transaction.
  private static let extentsPerTransaction = 20_000

  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64
  private let manifest: Manifest
  private let name: String
  private let condemned: Set<RemoteID>
  private let control: OperationControl

  private var facts: ManifestFacts { manifest.head.facts }

  init(
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    _ manifest: Manifest,
    name: String,
    condemned: Set<RemoteID>,
    control: OperationControl
  ) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
    self.manifest = manifest
    self.name = name
    self.condemned = condemned
    self.control = control
  }

  /// - Returns: The id of the complete snapshot, and how many chunks have no data here.
  /// - Throws: ``VMCheckpointError``: `corrupt` when the manifest is not what it says; as ``RemoteLink``; or
  ///   `DatabaseError`. What was written is of an unfinished snapshot then.
  func run() throws -> (id: Int64, newChunkCount: UInt64) {
    let footers = try PackFooters(
      database,
      link,
      remoteID: remoteID,
      packs: manifest.head.packs,
      control: control
    )
    let id = try begin()
    var pages = try FetchedPages(database, footers, remoteID: remoteID, condemned: condemned)
    let checksums = try StoreSeed(database).extentChecksum
    var extents = try ExtentWriter(
      database,
      snapshotID: id,
      key: checksums.key(ofSnapshot: facts.uuid),
      checksums: checksums
    )
    var digester = RAMDigester()
    var absent = AbsentPages()
    var workingSet: [Range<UInt64>] = []
    let numbers = ChunkNumbers(1)
    func write(isEnd: Bool) throws {
      _ = try extents.write(numbers, isEnd: isEnd)
      if isEnd { try pages.finish() }
    }
    try database.beginTransaction(.immediate)
    try manifest.forEachItem { item in
      switch item {
      case .extent(let firstPFN, let pageCount, let place):
        var pfn = firstPFN
        try pages.pages(place, count: pageCount) { location, digest in
          extents.add(pfn: pfn, at: location, digest: digest)
          digester.add(pfn: pfn, digest: digest)
          pfn += 1
        }
        if extents.pendingCount >= Self.extentsPerTransaction {
          try control.cancellation.check()
          try write(isEnd: false)
          try database.commit()
          try database.beginTransaction(.immediate)
        }
      case .absent(let run): absent.append(run)
      case .workingSet(let run): workingSet.append(run)
      }
    }
    try write(isEnd: true)
    try database.commit()
    guard hexadecimal(digester.finalize()) == facts.ramDigest else {
      throw VMCheckpointError.corrupt(
        "the manifest of snapshot \(quotedName(facts.name)) does not have the digest of its RAM"
      )
    }

    let contents = try overlayContents(&pages)
    try finish(id, extents.tally, absent: absent, workingSet: workingSet, contents: contents)
    return (id, pages.newChunkCount)
  }

  private func begin() throws -> Int64 {
    var id: Int64 = 0
    try database.inTransaction(.immediate) {
      let parent = try facts.parent.flatMap { parent in
        try Int64.fetchOne(
          database,
          sql: "SELECT id FROM snapshot WHERE uuid = ? AND state = 'complete'",
          arguments: [parent.uuid]
        )
      }
      try database.execute(
        sql: """
          INSERT INTO snapshot
            (uuid, name, vm, parent_id, state, started_at, source, producer, ram_bytes)
          VALUES (?, ?, ?, ?, 'writing', ?, ?, ?, ?)
          """,
        arguments: [
          facts.uuid, name, facts.vm, parent, facts.startedAt,
          SnapshotRows.withoutControls(facts.source), SnapshotRows.withoutControls(facts.producer),
          Int64(clamping: facts.ramBytes),
        ]
      )
      id = database.lastInsertedRowID
      for (key, value) in facts.tags {
        try database.execute(
          sql: "INSERT INTO snapshot_tag (snapshot_id, key, value) VALUES (?, ?, ?)",
          arguments: [id, key, value]
        )
      }
      return .commit
    }
    return id
  }

  /// Brings the pages that overlays keep, and says where each is.
  private func overlayContents(_ pages: inout FetchedPages) throws -> [PageLocation?] {
    var locations: [PageLocation?] = []
    try database.inTransaction(.immediate) {
      locations = try facts.overlays.map { overlay in
        var location: PageLocation?
        if let place = overlay.contents {
          try pages.pages(place, count: 1) { found, _ in location = found }
        }
        return location
      }
      try pages.finish()
      return .commit
    }
    let wanted = Set(locations.compactMap { $0?.chunkID }).sorted()
    try MissingChunks(database, link, remoteID: remoteID).bring(wanted, control: control)
    return locations
  }

  private func finish(
    _ id: Int64,
    _ tally: ExtentTally,
    absent: AbsentPages,
    workingSet: [Range<UInt64>],
    contents: [PageLocation?]
  ) throws {
    let rows = SnapshotRows(database, snapshotID: id)
    var digester = SnapshotDigester()
    let layout = try RAMLayout(
      regions: facts.regions.map {
        MemoryRegion(gpa: $0.gpa, byteCount: $0.bytes, fileOffset: $0.fileOffset, name: $0.name)
      }
    )
    try insertDeviceStates(id)
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
      try database.execute(
        sql: """
          INSERT INTO overlay
            (snapshot_id, pfn, kind, vp, parameters, contents_chunk_id, contents_slot, baked)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?)
          """,
        arguments: [
          id, Int64(clamping: overlay.pfn), overlay.kind, Int64(overlay.vp), overlay.parameters,
          location?.chunkID, location.map { Int64($0.slot) }, overlay.baked,
        ]
      )
    }
    if let origin = facts.overlayOrigin { try rows.insert(overlayOrigin: origin) }
    try complete(id, tally)
    guard let snapshot = try SnapshotCatalog.fetch(id: id, in: database) else {
      throw VMCheckpointError(.locked, "the snapshot's row was removed while it was fetched")
    }
    let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    try snapshot.requireDigest(layout, absent, overlays, database)
    if let set = facts.workingSet {
      try WorkingSetTable(database).replace(
        of: snapshot,
        door: set.door,
        durationSeconds: set.durationSeconds,
        runs: workingSet
      )
    }
    try database.commit()
  }

  private func insertDeviceStates(_ id: Int64) throws {
    let reader = try DevicePartReader(database, link, remoteID: remoteID, manifest.head.packs)
    for (position, state) in facts.deviceStates.enumerated() {
      try control.cancellation.check()
      // No transaction waits for the network.
      let data = try reader.bytes(of: state)
      try ValueLimit.allowingLargeValues(database) {
        try database.inTransaction(.immediate) {
          try database.execute(
            sql: """
              INSERT INTO device_state
                (snapshot_id, position, name, format, version, bytes, sha256, encoding, data)
              VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
              """,
            arguments: [
              id, position, state.name, state.format, Int64(state.version), state.bytes,
              Self.data(hexadecimal: state.sha256), state.encoding, Data(data),
            ]
          )
          return .commit
        }
      }
    }
  }

  private func complete(_ id: Int64, _ tally: ExtentTally) throws {
    guard tally.pageCount == facts.storedPages else {
      throw VMCheckpointError.corrupt(
        "the manifest of snapshot \(quotedName(facts.name)) has \(tally.pageCount) pages instead of "
          + "\(facts.storedPages)"
      )
    }
    try database.execute(
      sql: """
        UPDATE snapshot SET
          state = 'complete', completed_at = ?, guest_os_id = ?, cpu_vendor = ?,
          tsc_frequency_hz = ?, ram_bytes = ?, stored_pages = ?, ram_checksum = ?, new_pages = ?,
          new_stored_bytes = ?, ram_digest = ?, digest = ?
        WHERE id = ? AND state = 'writing'
        """,
      arguments: [
        facts.completedAt, facts.guestOSID, facts.cpuVendor, facts.tscFrequencyHz,
        Int64(clamping: facts.ramBytes), Int64(tally.pageCount),
        Int64(bitPattern: tally.checksum), Int64(clamping: facts.newPages),
        Int64(clamping: facts.newStoredBytes), Self.data(hexadecimal: facts.ramDigest),
        Self.data(hexadecimal: facts.digest), id,
      ]
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
