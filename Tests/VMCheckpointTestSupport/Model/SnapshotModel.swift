package import VMCheckpoint

/// What a snapshot must be, worked out page by page from what was given to `save`: slow, and
/// independent of how the library works.
package struct SnapshotModel {
  package var name: String
  package var layout: RAMLayout
  package var parent: String?
  package var tags: [String: String] = [:]
  package var overlays: OverlayDocument
  package var digest = ""

  /// PFN → page, zero pages left out, as bare RAM.
  package private(set) var pages: [UInt64: [UInt8]] = [:]

  /// - Parameter captured: A flat RAM file.
  package init(
    name: String,
    layout: RAMLayout,
    captured: [UInt8],
    overlays: OverlayDocument,
    parent: String?
  ) {
    self.name = name
    self.layout = layout
    self.overlays = overlays
    self.parent = parent
    for region in layout.regions {
      for index in 0..<Int(region.byteCount >> 12) {
        let start = Int(region.fileOffset) + index * Page.byteCount
        pages[region.gpa >> 12 + UInt64(index)] = Array(captured[start..<(start + Page.byteCount)])
      }
    }
    for record in overlays.records where pages[record.overlay.pfn.rawValue] != nil {
      switch record.underlay {
      case .zero: pages[record.overlay.pfn.rawValue] = PageContents.zero.bytes
      case .page(let page): pages[record.overlay.pfn.rawValue] = page.bytes
      case .unknown, nil: break
      }
    }
    pages = pages.filter { $0.value.contains { $0 != 0 } }
  }

  /// The flat RAM file of bare RAM.
  package var bare: [UInt8] { flat(pages) }

  /// The flat RAM file that shows at each PFN the overlay of the highest rank.
  package var applied: [UInt8] {
    var shown = pages
    for (pfn, records) in Dictionary(grouping: overlays.records, by: \.overlay.pfn.rawValue) {
      guard layout.regions.contains(where: { Self.holds($0, pfn) }) else { continue }
      if records.contains(where: { $0.underlay == .unknown }) { continue }
      let active = records.min { Self.rank($0.overlay) < Self.rank($1.overlay) }!
      shown[pfn] = active.overlay.contents().bytes
    }
    return flat(shown)
  }

  /// Every page content that must be stored, once.
  package var distinctPages: Set<[UInt8]> {
    var distinct = Set(pages.values)
    for record in overlays.records where record.overlay.kind.storesContents {
      distinct.insert(record.overlay.contents().bytes)
    }
    distinct.remove(PageContents.zero.bytes)
    return distinct
  }

  private func flat(_ pages: [UInt64: [UInt8]]) -> [UInt8] {
    var file = [UInt8](repeating: 0, count: Int(layout.fileByteCount))
    for region in layout.regions {
      for index in 0..<Int(region.byteCount >> 12) {
        guard let page = pages[region.gpa >> 12 + UInt64(index)] else { continue }
        let start = Int(region.fileOffset) + index * Page.byteCount
        file.replaceSubrange(start..<(start + Page.byteCount), with: page)
      }
    }
    return file
  }

  private static func holds(_ region: MemoryRegion, _ pfn: UInt64) -> Bool {
    (region.gpa >> 12..<(region.gpa + region.byteCount) >> 12).contains(pfn)
  }

  /// The format's priorities, written down once more.
  private static func rank(_ overlay: Overlay) -> (Int, UInt32) {
    let order = ["hypercall", "reference-tsc", "synic-message", "synic-event", "vp-assist"]
    return (order.firstIndex(of: overlay.kind.rawValue)!, overlay.vp)
  }
}

extension RAMLayout {
  /// A RAM file with zeros where no region is: a save refuses data there.
  package func clearingGaps(of flat: [UInt8]) -> [UInt8] {
    var cleared = [UInt8](repeating: 0, count: flat.count)
    for region in regions {
      let bytes = Int(region.fileOffset)..<Int(region.fileOffset + region.byteCount)
      cleared.replaceSubrange(bytes, with: flat[bytes])
    }
    return cleared
  }
}

/// The pages that differ between two snapshots, found one by one.
package struct NaiveDiff: Equatable {
  package var added: [UInt64] = []
  package var zeroed: [UInt64] = []
  package var changed: [UInt64] = []
  package var unchangedPageCount = 0

  package init(_ a: SnapshotModel, _ b: SnapshotModel) {
    for pfn in Set(a.pages.keys).union(b.pages.keys).sorted() {
      switch (a.pages[pfn], b.pages[pfn]) {
      case (nil, _): added.append(pfn)
      case (_, nil): zeroed.append(pfn)
      case (let left, let right) where left == right: unchangedPageCount += 1
      default: changed.append(pfn)
      }
    }
  }

  /// What the library says, page by page.
  package init(_ diff: SnapshotDiff) {
    func pfns(_ changes: PageChanges) -> [UInt64] {
      changes.ranges.flatMap { Array($0.firstPFN..<($0.firstPFN + $0.pageCount)) }
    }
    added = pfns(diff.added)
    zeroed = pfns(diff.zeroed)
    changed = pfns(diff.changed)
    unchangedPageCount = Int(diff.unchangedPageCount)
  }
}

extension TestGenerator {
  /// Overlays at up to `pfnCount` PFNs of RAM, in stacks of up to three, with every sort of
  /// underlay.
  package mutating func overlays(in layout: RAMLayout, pfnCount: Int = 4) -> OverlayDocument {
    var records: [OverlayRecord] = []
    var used = Set<UInt64>()
    for _ in 0..<int(0...pfnCount) {
      let region = layout.regions.randomElement(using: &self)!
      let pfn = region.gpa >> 12 + UInt64(int(0...Int(region.byteCount >> 12 - 1)))
      guard used.insert(pfn).inserted else { continue }
      let underlay: CapturedUnderlay? =
        switch int(0...3) {
        case 0: nil
        case 1: .zero
        case 2: .page(pageContents())
        default: .unknown
        }
      for kind in OverlayKind.allCases.shuffled(using: &self).prefix(int(1...3)) {
        let vp = kind.scope == .vp ? UInt32(int(0...3)) : 0
        records.append(
          OverlayRecord(
            overlay: Overlay(
              pfn: PFN(rawValue: pfn)!,
              parameters: parameters(of: kind),
              vp: vp
            ),
            underlay: underlay
          )
        )
      }
    }
    if oneIn(4) {
      let pfn = PFN(rawValue: (1 << 45) + UInt64(int(0...9)))!
      records.append(
        OverlayRecord(overlay: Overlay(pfn: pfn, parameters: parameters(of: .referenceTSC)))
      )
    }
    return OverlayDocument(guestOSID: oneIn(2) ? nil : 0x8100_0601_0000_0000, records: records)
  }
}
