import CSQLiteExtension
import VMCheckpointCore

/// Single pages of a snapshot.
extension Connection {
  /// Whether `pfn` lies in a memory region of the snapshot.
  func isRAM(_ pfn: PFN, in snapshot: SnapshotRow) throws -> Bool {
    guard pfn.gpa < RAMLayout.gpaLimit else { return false }
    let statement = try statement(.region)
    statement.reset()
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.gpa), at: 2)
    guard try statement.step() else { return false }
    let (gpa, byteCount) = (try statement.integer(0), try statement.integer(1))
    guard gpa >= 0, byteCount > 0 else {
      throw SQLError.corrupt("\(snapshot.title) is damaged: a memory region is impossible")
    }
    return Int64(pfn.gpa) - gpa < byteCount
  }

  /// Calls `body` with the page as bare RAM, its SHA-256 found right, or with `nil` where it is
  /// zero.
  ///
  /// - Throws: ``SQLError`` when the store is damaged there; what `body` throws.
  func withPage<Result>(
    at pfn: PFN,
    of snapshot: SnapshotRow,
    _ body: (UnsafeRawBufferPointer?) throws -> Result
  ) throws -> Result {
    let statement = try statement(.extent)
    statement.reset()
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.rawValue), at: 2)
    guard try statement.step() else {
      try requireAllExtents(of: snapshot)
      return try body(nil)
    }
    let extent = try ExtentRow(statement)
    let row = try ChunkRow(statement, id: extent.chunkID, at: ExtentRow.chunkColumn)
    try extent.check(row, of: snapshot, seed().extentChecksum)
    let slot = extent.firstSlot + Int(pfn.rawValue - extent.firstPFN)
    return try body(try chunks().page(row, slot: slot))
  }

  /// Checks that no extent of the snapshot is lost, since its pages would read as zeros. Reads all of them
  /// once, and again when the store has changed.
  ///
  /// - Throws: ``SQLError`` when one is.
  func requireAllExtents(of snapshot: SnapshotRow) throws {
    let version = try dataVersion()
    guard wholeSnapshots[snapshot.uuid] != version else { return }
    let statement = try statement(.extentSums)
    statement.reset()
    defer { statement.reset() }
    try statement.bind(snapshot.id, at: 1)
    var (pageCount, checksum): (Int64, UInt64) = (0, 0)
    while try statement.step() {
      pageCount &+= try statement.integer(0)
      checksum &+= UInt64(bitPattern: try statement.integer(1))
    }
    guard pageCount == snapshot.storedPageCount, checksum == snapshot.ramChecksum else {
      throw SQLError.lostExtent(snapshot)
    }
    if wholeSnapshots.count >= Self.wholeSnapshotsMaximum { wholeSnapshots.removeAll() }
    wholeSnapshots[snapshot.uuid] = version
  }

  /// The page in a slot of a chunk, its SHA-256 found right.
  func page(chunkID: Int64, slot: Int64) throws -> PageContents {
    let statement = try statement(.chunk)
    statement.reset()
    try statement.bind(chunkID, at: 1)
    guard (0..<16).contains(slot), try statement.step() else {
      throw SQLError.corrupt("chunk \(chunkID) is missing, or slot \(slot) impossible")
    }
    let row = try ChunkRow(statement, id: chunkID, at: 0)
    return PageContents(copying: try chunks().page(row, slot: Int(slot)))!
  }

  /// The overlay that the guest sees at `pfn`, and whether RAM has its bytes already.
  func activeOverlay(
    at pfn: PFN,
    of snapshot: SnapshotRow
  ) throws -> (overlay: Overlay, isBaked: Bool)? {
    let statement = try statement(.overlays)
    statement.reset()
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.rawValue), at: 2)
    var active: (kind: OverlayKind, vp: UInt32, row: OverlayRow)?
    while try statement.step() {
      let row = try OverlayRow(statement)
      guard let kind = OverlayKind(rawValue: row.kind), let vp = UInt32(exactly: row.vp) else {
        throw SQLError.corrupt("\(snapshot.title): an overlay's kind or VP is impossible")
      }
      if let active, (active.kind.priority, active.vp) < (kind.priority, vp) { continue }
      active = (kind, vp, row)
    }
    guard let active else { return nil }
    let row = active.row
    var contents: PageContents?
    if active.kind.storesContents {
      contents =
        if let chunkID = row.chunkID, let slot = row.slot {
          try page(chunkID: chunkID, slot: slot)
        } else {
          .zero
        }
    }
    do throws(VMCheckpointError) {
      let overlay = try Overlay(
        kind: active.kind,
        vp: active.vp,
        pfn: pfn,
        parametersJSON: row.parameters,
        contents: contents
      )
      return (overlay, row.isBaked)
    } catch {
      throw SQLError.corrupt("\(snapshot.title): \(error.message)")
    }
  }
}

extension SQLError {
  static func lostExtent(_ snapshot: SnapshotRow) -> SQLError {
    .corrupt("\(snapshot.title) is damaged: an extent is lost, or not the one that was written")
  }
}

private struct OverlayRow {
  var kind: String
  var vp: Int64
  var parameters: String
  var chunkID: Int64?
  var slot: Int64?
  var isBaked: Bool

  init(_ statement: Statement) throws {
    kind = try statement.text(0)
    vp = try statement.integer(1)
    parameters = try statement.text(2)
    chunkID = try statement.optionalInteger(3)
    slot = try statement.optionalInteger(4)
    isBaked = try statement.integer(5) != 0
  }
}
