/// What reading a complete snapshot needs of its row.
package struct StoredSnapshot: Sendable {
  package var id: Int64
  package var name: String
  package var parentID: Int64?
  package var ramByteCount: UInt64
  package var storedPageCount: UInt64
  /// The sum of the extents' checksums.
  package var ramChecksum: UInt64
  package var uuid: String

  package init(
    id: Int64,
    name: String,
    parentID: Int64?,
    ramByteCount: UInt64,
    storedPageCount: UInt64,
    ramChecksum: UInt64,
    uuid: String
  ) {
    self.id = id
    self.name = name
    self.parentID = parentID
    self.ramByteCount = ramByteCount
    self.storedPageCount = storedPageCount
    self.ramChecksum = ramChecksum
    self.uuid = uuid
  }

  /// What ``init(_:)`` reads.
  package static let columns = "id, name, parent_id, ram_bytes, stored_pages, ram_checksum, uuid"

  /// How many these are.
  package static let columnCount: Int32 = 7

  /// From the columns ``columns``.
  package init(_ statement: some StoreStatement) throws {
    id = try statement.integer(0)
    name = try statement.text(1)
    parentID = try statement.optionalInteger(2)
    ramByteCount = UInt64(clamping: try statement.integer(3))
    storedPageCount = UInt64(clamping: try statement.integer(4))
    ramChecksum = UInt64(bitPattern: try statement.integer(5))
    uuid = try statement.text(6)
  }

  /// For messages.
  package var title: String { "snapshot \(quotedName(name))" }
}
