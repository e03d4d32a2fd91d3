import GRDB

/// A snapshot's overlays as the store has them, checked by the overlay rules.
struct StoredOverlays {
  /// One overlay with what the store says of it.
  struct Entry {
    var overlay: Overlay
    /// RAM keeps the overlay's bytes; what lay beneath is lost.
    var isBaked: Bool
    /// Whether retargeting changed the parameters.
    var isRetargeted = false
    /// Where stored contents are; `nil` for derived ones and for a zero page.
    var contentsLocation: PageLocation?
  }

  /// By PFN, then priority, then VP: the first at a PFN is the active one.
  private(set) var entries: [Entry]
  let guestOSID: UInt64?
  private let layout: RAMLayout

  /// No VM has more: a few for the VM and three for each of at most 2¹⁶ virtual processors.
  static let maximumCount = 1 << 18

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the rows break a rule, or stored
  ///   contents cannot be read.
  init(_ database: Database, snapshot: SnapshotRow, layout: RAMLayout) throws {
    self.layout = layout
    guestOSID = try Self.parse(guestOSID: snapshot.guestOSID, of: snapshot)
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT pfn, kind, vp, parameters, contents_chunk_id, contents_slot, baked
          FROM overlay WHERE snapshot_id = ? LIMIT \(Self.maximumCount + 1)
        """,
      arguments: [snapshot.id]
    )
    guard rows.count <= Self.maximumCount else {
      throw VMCheckpointError(.corrupt, "\(snapshot.title) has too many overlays")
    }
    var pages = StoredPageReader(database)
    entries = try rows.map { row in
      do {
        return try Self.entry(row, &pages)
      } catch let error as VMCheckpointError {
        throw VMCheckpointError(
          .corrupt,
          "\(snapshot.title) is damaged: \(error.message)",
          hint: "see what is hurt with: vmckpt verify"
        )
      }
    }
    entries.sort { lhs, rhs in
      lhs.overlay.pfn == rhs.overlay.pfn
        ? lhs.overlay.precedes(rhs.overlay) : lhs.overlay.pfn < rhs.overlay.pfn
    }
  }

  private static func entry(_ row: Row, _ pages: inout StoredPageReader) throws -> Entry {
    let kindName: String = try row.value("kind")
    guard let kind = OverlayKind(rawValue: kindName),
      let pfn = PFN(rawValue: UInt64(bitPattern: try row.value("pfn"))),
      let vp = UInt32(exactly: try row.value("vp") as Int64)
    else {
      throw VMCheckpointError(.corrupt, "an overlay's kind, PFN or VP is impossible")
    }
    var location: PageLocation?
    if let chunkID: Int64 = try row.value("contents_chunk_id"),
      let slot: Int64 = try row.value("contents_slot")
    {
      guard PageLocation.validChunkIDs.contains(chunkID), (0...15).contains(slot) else {
        throw VMCheckpointError(.corrupt, "the contents of an overlay are nowhere")
      }
      location = PageLocation(chunkID: chunkID, slot: Int(slot))
    }
    let contents = try location.map { try pages.page(at: $0) } ?? .zero
    let overlay = try Overlay(
      kind: kind,
      vp: vp,
      pfn: pfn,
      parametersJSON: try row.value("parameters"),
      contents: kind.storesContents ? contents : nil
    )
    return Entry(overlay: overlay, isBaked: try row.value("baked"), contentsLocation: location)
  }

  private static func parse(
    guestOSID text: String?,
    of snapshot: SnapshotRow
  ) throws -> UInt64? {
    guard let text else { return nil }
    guard text.hasPrefix("0x"), let value = UInt64(text.dropFirst(2), radix: 16) else {
      throw VMCheckpointError(.corrupt, "\(snapshot.title) has an impossible guest OS ID")
    }
    return value
  }

  /// Changes the parameters for another host.
  ///
  /// - Throws: ``VMCheckpointError`` when the frequency is 0.
  mutating func retarget(tscFrequencyHz: UInt64?, cpuVendor: CPUVendor?) throws(VMCheckpointError) {
    for index in entries.indices {
      let overlay = entries[index].overlay
      let retargeted = try overlay.retargeted(
        tscFrequencyHz: tscFrequencyHz,
        cpuVendor: cpuVendor
      )
      entries[index].isRetargeted = retargeted != overlay
      entries[index].overlay = retargeted
    }
  }

  /// The overlays that restored RAM shows: the active one of each PFN that is RAM.
  var active: [Entry] {
    var last: PFN?
    return entries.filter { entry in
      defer { last = entry.overlay.pfn }
      return entry.overlay.pfn != last && layout.contains(entry.overlay.pfn)
    }
  }

  /// The overlays.json for bare RAM: baked ones give `unknown`, others no underlay.
  func bareDocument() -> OverlayDocument {
    OverlayDocument(
      guestOSID: guestOSID,
      records: entries.map {
        OverlayRecord(overlay: $0.overlay, underlay: $0.isBaked ? .unknown : nil)
      }
    )
  }

  /// The overlays.json for RAM that shows the active overlays. One record of a stack, the active
  /// one, gives the underlay.
  func appliedDocument(underlay: (PFN) throws -> CapturedUnderlay) rethrows -> OverlayDocument {
    var last: PFN?
    return OverlayDocument(
      guestOSID: guestOSID,
      records: try entries.map { entry in
        let pfn = entry.overlay.pfn
        defer { last = pfn }
        if entry.isBaked { return OverlayRecord(overlay: entry.overlay, underlay: .unknown) }
        guard pfn != last, layout.contains(pfn) else {
          return OverlayRecord(overlay: entry.overlay, underlay: nil)
        }
        return OverlayRecord(overlay: entry.overlay, underlay: try underlay(pfn))
      }
    )
  }
}
