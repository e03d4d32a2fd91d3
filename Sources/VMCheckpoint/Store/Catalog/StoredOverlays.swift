import GRDB

/// A guest's overlays as the store has them, or is to have them, checked by the overlay rules.
struct StoredOverlays {
  /// One overlay with what the store says of it.
  struct Entry {
    var overlay: Overlay
    /// RAM keeps the overlay's bytes; what lay beneath is lost.
    var isBaked: Bool
    /// Whether retargeting changed the parameters.
    var isRetargeted = false
    /// Whether the VMM lays it over restored RAM, which is bare there.
    var isLeftToVMM = false
    /// Where stored contents are; `nil` for derived ones and for a zero page.
    var contentsLocation: PageLocation?
  }

  /// By PFN, then priority, then VP: the first at a PFN is the active one.
  private(set) var entries: [Entry]
  let guestOSID: UInt64?
  private let layout: RAMLayout

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the rows break a rule, or stored
  ///   contents cannot be read.
  init(_ database: Database, snapshot: SnapshotRow, layout: RAMLayout) throws {
    self.layout = layout
    guestOSID = try Self.parse(guestOSID: snapshot.guestOSID, of: snapshot)
    let reader = StoreReader(database)
    var entries: [Entry] = []
    do {
      try reader.forEachOverlay(of: snapshot.stored) { row in
        entries.append(
          Entry(
            overlay: try reader.overlay(row),
            isBaked: row.isBaked,
            contentsLocation: row.contentsLocation
          )
        )
      }
    } catch let error as VMCheckpointError where error.isDamage {
      throw VMCheckpointError.corrupt("\(snapshot.title) is damaged: \(error.message)")
    }
    self.entries = entries.sorted { lhs, rhs in
      lhs.overlay.pfn == rhs.overlay.pfn
        ? lhs.overlay.precedes(rhs.overlay) : lhs.overlay.pfn < rhs.overlay.pfn
    }
  }

  /// Those of a guest that was captured.
  init(_ plan: OverlayPlan, guestOSID: UInt64?, layout: RAMLayout) {
    self.guestOSID = guestOSID
    self.layout = layout
    entries = plan.stacks.flatMap { stack in
      stack.overlays.map { Entry(overlay: $0, isBaked: stack.isBaked) }
    }
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

  /// Notes which overlays the VMM lays over restored RAM itself.
  mutating func leave(to isLeftToVMM: (Overlay) -> Bool) {
    for index in entries.indices where !entries[index].isBaked {
      entries[index].isLeftToVMM = isLeftToVMM(entries[index].overlay)
    }
  }

  /// The overlays that the guest sees: the active one of each PFN that is RAM.
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

  /// The overlays.json for RAM that shows the active overlays, but for those that are left to the VMM. One
  /// record of a stack, the active one, gives the underlay.
  func appliedDocument(underlay: (PFN) throws -> CapturedUnderlay) rethrows -> OverlayDocument {
    var last: PFN?
    return OverlayDocument(
      guestOSID: guestOSID,
      records: try entries.map { entry in
        let pfn = entry.overlay.pfn
        defer { last = pfn }
        if entry.isBaked { return OverlayRecord(overlay: entry.overlay, underlay: .unknown) }
        guard pfn != last, layout.contains(pfn), !entry.isLeftToVMM else {
          return OverlayRecord(overlay: entry.overlay, underlay: nil)
        }
        return OverlayRecord(overlay: entry.overlay, underlay: try underlay(pfn))
      }
    )
  }
}
