import Foundation
import GRDB

/// A complete snapshot's own row, as far as operations on it need.
struct SnapshotRow: FetchableRecord {
  var id: Int64
  var uuid: String
  var name: String
  var vm: String
  var parentID: Int64?
  var ramByteCount: UInt64
  var storedPageCount: UInt64
  var guestOSID: String?
  var ramDigest: Data
  var digest: Data

  /// The columns that ``init(row:)`` reads, of a snapshot table called `s`.
  static let columns = """
    s.id, s.uuid, s.name, s.vm, s.parent_id, s.ram_bytes, s.stored_pages, s.guest_os_id,
    s.ram_digest, s.digest
    """

  init(row: Row) throws {
    id = try row.value("id")
    uuid = try row.value("uuid")
    name = try row.value("name")
    vm = try row.value("vm")
    parentID = try row.value("parent_id")
    ramByteCount = UInt64(clamping: try row.value("ram_bytes") as Int64)
    storedPageCount = UInt64(clamping: try row.value("stored_pages") as Int64)
    guestOSID = try row.value("guest_os_id")
    ramDigest = try row.value("ram_digest") as Data? ?? Data()
    digest = try row.value("digest") as Data? ?? Data()
  }

  /// For messages.
  var title: String { "snapshot \(quotedName(name))" }

  /// The snapshot's memory regions.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they make no sense.
  func layout(_ database: Database) throws -> RAMLayout {
    let regions = try Row.fetchAll(
      database,
      sql: """
        SELECT gpa, bytes, file_offset, name FROM memory_region WHERE snapshot_id = ?
         ORDER BY gpa LIMIT \(RAMLayout.maximumRegionCount + 1)
        """,
      arguments: [id]
    ).map { row in
      MemoryRegion(
        gpa: UInt64(bitPattern: try row.value("gpa")),
        byteCount: UInt64(bitPattern: try row.value("bytes")),
        fileOffset: UInt64(bitPattern: try row.value("file_offset")),
        name: try row.value("name")
      )
    }
    do throws(VMCheckpointError) {
      return try RAMLayout(regions: regions)
    } catch {
      throw VMCheckpointError(.corrupt, "\(title) is damaged: \(error.message)")
    }
  }
}
