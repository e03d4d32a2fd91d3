import Foundation
package import GRDB

/// A complete snapshot's own row, as far as operations on it need.
package struct SnapshotRow: FetchableRecord, Sendable {
  var id: Int64
  var uuid: String
  var name: String
  var vm: String
  var parentID: Int64?
  var ramByteCount: UInt64
  var storedPageCount: UInt64
  /// The sum of the extents' checksums.
  var ramChecksum: UInt64?
  var guestOSID: String?
  var cpuVendor: String?
  var tscFrequencyHz: Int64?
  var ramDigest: Data
  var digest: Data

  /// The columns that ``init(row:)`` reads, of a snapshot table called `s`.
  static let columns = """
    s.id, s.uuid, s.name, s.vm, s.parent_id, s.ram_bytes, s.stored_pages, s.ram_checksum,
    s.guest_os_id, s.cpu_vendor, s.tsc_frequency_hz, s.ram_digest, s.digest
    """

  package init(row: Row) throws {
    id = try row.value("id")
    uuid = try row.value("uuid")
    name = try row.value("name")
    vm = try row.value("vm")
    parentID = try row.value("parent_id")
    ramByteCount = UInt64(clamping: try row.value("ram_bytes") as Int64)
    storedPageCount = UInt64(clamping: try row.value("stored_pages") as Int64)
    ramChecksum = (try row.value("ram_checksum") as Int64?).map { UInt64(bitPattern: $0) }
    guestOSID = try row.value("guest_os_id")
    cpuVendor = try row.value("cpu_vendor")
    tscFrequencyHz = try row.value("tsc_frequency_hz")
    ramDigest = try row.value("ram_digest") as Data? ?? Data()
    digest = try row.value("digest") as Data? ?? Data()
  }

  /// What is wrong with a snapshot whose rows do not have its digest.
  static let wrongDigest =
    "its regions, absent pages, overlays, device state or description of the machine do not have its "
    + "digest"

  /// For messages.
  var title: String { "snapshot \(quotedName(name))" }

  /// What reading its pages needs.
  var stored: StoredSnapshot {
    StoredSnapshot(
      id: id,
      name: name,
      parentID: parentID,
      ramByteCount: ramByteCount,
      storedPageCount: storedPageCount,
      ramChecksum: ramChecksum ?? 0,
      uuid: uuid
    )
  }

  /// The snapshot's memory regions.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they make no sense, or are not all.
  func layout(_ database: Database) throws -> RAMLayout {
    try StoreReader(database).layout(of: stored)
  }

  /// The pages that the dump left out that the snapshot was saved from.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they make no sense.
  func absentPages(_ database: Database, in layout: RAMLayout) throws -> AbsentPages {
    try StoreReader(database).absentPages(of: stored, in: layout)
  }

  /// The same, proved by the snapshot's digest in a store that may have absent pages.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they are not, or `DatabaseError`.
  func provenAbsentPages(_ database: Database, in layout: RAMLayout) throws -> AbsentPages {
    let absent = try absentPages(database, in: layout)
    let mayHaveThem =
      try StoreFormat.features(of: database).contains(.absentRanges)
      || database.tableExists("absent_range")
    if mayHaveThem {
      let overlays = try StoredOverlays(database, snapshot: self, layout: layout)
      try requireDigest(layout, absent, overlays, database)
    }
    return absent
  }
}
