import CSQLiteExtension
import VMCheckpointCore

/// A complete snapshot's row.
struct SnapshotRow {
  var id: Int64
  var name: String
  var parentID: Int64?
  var storedPageCount: Int64
  /// The sum of the extents' checksums.
  var ramChecksum: UInt64
  var uuid: String

  /// What ``init(_:)`` reads.
  static let columns = "id, name, parent_id, stored_pages, ram_checksum, uuid"

  /// For messages.
  var title: String { "snapshot \(quotedName(name))" }

  init(_ statement: Statement) throws {
    id = try statement.integer(0)
    name = try statement.text(1)
    parentID = try statement.optionalInteger(2)
    storedPageCount = try statement.integer(3)
    ramChecksum = UInt64(bitPattern: try statement.integer(4))
    uuid = try statement.text(5)
  }
}

/// How a function's `snapshot` argument names a snapshot: its id, or what the commands call REF.
enum SnapshotSelector {
  case id(Int64)
  case reference(SnapshotReference)

  init(_ argument: SQLArgument) throws {
    self =
      argument.isInteger
      ? .id(try argument.integer(in: .min ... .max))
      : .reference(try SnapshotReference(try argument.text()))
  }
}

extension Connection {
  /// Finds a complete snapshot. The shared statement that found it stays open, and with it the
  /// view of the database: ``resetStatements()`` ends both.
  ///
  /// - Throws: ``SQLError`` or `VMCheckpointError` when there is none, or several.
  func snapshot(_ selector: SnapshotSelector) throws -> SnapshotRow {
    switch selector {
    case .id(let id):
      guard let snapshot = try snapshot(id: id) else {
        throw SQLError.misuse("there is no snapshot with the id \(id)")
      }
      return snapshot
    case .reference(let reference):
      var snapshot = try base(reference)
      for step in 0..<reference.ancestorCount {
        guard let parentID = snapshot.parentID, let parent = try self.snapshot(id: parentID) else {
          throw SQLError.misuse(
            "snapshot \(quotedName(reference.base)) has \(step) "
              + "\(step == 1 ? "parent" : "parents"), not \(reference.ancestorCount)"
          )
        }
        // A parent is always older: so there is an end, whatever a damaged row says.
        guard parent.id < snapshot.id else {
          throw SQLError.corrupt("\(snapshot.title): its parent is not older than it is")
        }
        snapshot = parent
      }
      return snapshot
    }
  }

  private func snapshot(id: Int64) throws -> SnapshotRow? {
    let statement = try statement(.snapshotByID)
    statement.reset()
    try statement.bind(id, at: 1)
    return try statement.step() ? SnapshotRow(statement) : nil
  }

  private func base(_ reference: SnapshotReference) throws -> SnapshotRow {
    let text = reference.base
    if text == SnapshotName.latest {
      let newest = try statement(.newestSnapshot)
      newest.reset()
      guard try newest.step() else { throw SQLError.misuse("the store has no snapshot") }
      return try SnapshotRow(newest)
    }
    let named = try statement(.snapshotByName)
    named.reset()
    try named.bind(text, at: 1)
    if try named.step() { return try SnapshotRow(named) }
    return try byUUIDPrefix(text.lowercased())
      ?? { throw SQLError.misuse("there is no snapshot \(quotedName(text))") }()
  }

  private func byUUIDPrefix(_ prefix: String) throws -> SnapshotRow? {
    guard prefix.utf8.count >= 4, prefix.allSatisfy({ $0.isHexDigit || $0 == "-" }) else {
      return nil
    }
    let statement = try statement(.snapshotsByUUID)
    statement.reset()
    try statement.bind(prefix, at: 1)
    guard try statement.step() else { return nil }
    let snapshot = try SnapshotRow(statement)
    guard try !statement.step() else {
      throw SQLError.misuse("the UUID prefix \(quotedName(prefix)) fits several snapshots")
    }
    return snapshot
  }

  /// The snapshot's memory regions, checked.
  func layout(of snapshot: SnapshotRow) throws -> RAMLayout {
    let statement = try statement(.regions)
    statement.reset()
    try statement.bind(snapshot.id, at: 1)
    var regions: [MemoryRegion] = []
    while try statement.step() {
      regions.append(
        MemoryRegion(
          gpa: UInt64(bitPattern: try statement.integer(0)),
          byteCount: UInt64(bitPattern: try statement.integer(1)),
          fileOffset: UInt64(bitPattern: try statement.integer(2)),
          name: try statement.text(3)
        )
      )
    }
    do throws(VMCheckpointError) {
      return try RAMLayout(regions: regions)
    } catch {
      throw SQLError.corrupt("\(snapshot.title) is damaged: \(error.message)")
    }
  }
}
