/// A row of `overlay`, checked as far as that goes without the page that it may have.
package struct OverlayRow {
  package var pfn: PFN
  package var kind: OverlayKind
  package var vp: UInt32
  package var parametersJSON: String
  /// Where stored contents are; `nil` for derived ones and for a zero page.
  package var contentsLocation: PageLocation?
  /// RAM keeps the overlay's bytes; what lay beneath is lost.
  package var isBaked: Bool

  /// No VM has more: a few for the VM and three for each of at most 2¹⁶ virtual processors.
  package static let maximumCount = 1 << 18

  /// What ``init(_:)`` reads.
  static let columns = "pfn, kind, vp, parameters, contents_chunk_id, contents_slot, baked"

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for impossible values.
  init(_ statement: some StoreStatement) throws {
    guard let kind = OverlayKind(rawValue: try statement.text(1)),
      let pfn = PFN(rawValue: UInt64(bitPattern: try statement.integer(0))),
      let vp = UInt32(exactly: try statement.integer(2))
    else {
      throw VMCheckpointError.corrupt("an overlay's kind, PFN or VP is impossible")
    }
    (self.pfn, self.kind, self.vp) = (pfn, kind, vp)
    parametersJSON = try statement.text(3, maximumByteCount: Overlay.maximumParametersByteCount)
    if let chunkID = try statement.optionalInteger(4), let slot = try statement.optionalInteger(5) {
      guard PageLocation.validChunkIDs.contains(chunkID), (0...15).contains(slot) else {
        throw VMCheckpointError.corrupt("the contents of an overlay are nowhere")
      }
      contentsLocation = PageLocation(chunkID: chunkID, slot: Int(slot))
    }
    isBaked = try statement.integer(6) != 0
  }

  /// Whether the guest sees this one and not `other`, at one PFN.
  func precedes(_ other: OverlayRow) -> Bool {
    (kind.priority, vp) < (other.kind.priority, other.vp)
  }
}

extension StoreReader {
  /// Calls `body` with the snapshot's overlays, in no order.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`; what `body` throws.
  package func forEachOverlay(
    of snapshot: StoredSnapshot,
    _ body: (OverlayRow) throws -> Void
  ) throws {
    let statement = try statement(.overlays)
    defer { statement.reset() }
    try statement.bind(snapshot.id, at: 1)
    var count = 0
    while try statement.step() {
      count += 1
      guard count <= OverlayRow.maximumCount else {
        throw VMCheckpointError.corrupt("\(snapshot.title) has too many overlays")
      }
      try body(OverlayRow(statement))
    }
  }

  /// The overlay of a row, with its page where the kind stores it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the page cannot be read, or the row breaks
  ///   the kind's rules.
  package func overlay(_ row: OverlayRow) throws -> Overlay {
    let contents = try row.contentsLocation.map { try page(at: $0) } ?? .zero
    return try Overlay(
      kind: row.kind,
      vp: row.vp,
      pfn: row.pfn,
      parametersJSON: row.parametersJSON,
      contents: row.kind.storesContents ? contents : nil
    )
  }

  /// The overlay that the guest sees at `pfn`, and whether RAM has its bytes already.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`.
  package func activeOverlay(
    at pfn: PFN,
    of snapshot: StoredSnapshot
  ) throws -> (overlay: Overlay, isBaked: Bool)? {
    let statement = try statement(.overlaysOfPage)
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.rawValue), at: 2)
    do {
      var active: OverlayRow?
      while try statement.step() {
        let row = try OverlayRow(statement)
        if active.map(row.precedes) ?? true { active = row }
      }
      return try active.map { (try overlay($0), $0.isBaked) }
    } catch let error as VMCheckpointError where error.isDamage {
      throw VMCheckpointError.corrupt("\(snapshot.title): \(error.message)")
    }
  }
}
