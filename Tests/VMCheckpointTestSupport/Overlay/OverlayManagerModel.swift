public import VMCheckpoint

/// What an `OverlayManager` should do, said as simply as possible: a flat list of overlays and
/// what lies beneath them, from which every visible page is worked out anew each time.
public struct OverlayManagerModel {
  private struct Entry {
    var overlay: Overlay
    /// What the guest wrote into a page that derives its contents, while RAM shows it.
    var scribble: PageContents?
  }

  /// RAM without overlays.
  private var bare: [PFN: PageContents]
  private var entries: [Entry] = []
  /// PFNs with overlays that RAM does not show.
  private var droppedPFNs: Set<PFN> = []

  /// Whether the manager should be paused.
  public private(set) var isPaused = false

  /// A model of a manager without overlays over RAM that holds `pages`.
  public init(pages: [PFN: PageContents]) {
    bare = pages
  }

  /// Whether there is such an overlay.
  public func has(_ kind: OverlayKind, vp: UInt32, at pfn: PFN) -> Bool {
    index(kind, vp: vp, at: pfn) != nil
  }

  /// Whether the overlay rules allow `overlay` to be added.
  public func allows(_ overlay: Overlay) -> Bool {
    (bare[overlay.pfn] != nil || overlay.kind == .referenceTSC)
      && !has(overlay.kind, vp: overlay.vp, at: overlay.pfn)
  }

  /// The pages of RAM as the guest should see them.
  public var visiblePages: [PFN: PageContents] {
    var pages = bare
    for pfn in bare.keys {
      guard let top = shownIndex(at: pfn) else { continue }
      pages[pfn] = entries[top].scribble ?? entries[top].overlay.contents()
    }
    return pages
  }

  /// What `OverlayManager.overlays` should be.
  public var overlays: [Overlay] {
    entries.map(\.overlay).sorted { lhs, rhs in
      (lhs.pfn.rawValue, lhs.kind.priority, lhs.vp) < (rhs.pfn.rawValue, rhs.kind.priority, rhs.vp)
    }
  }

  /// What `OverlayManager.records` should be.
  public var records: [OverlayRecord] {
    var seen: Set<PFN> = []
    return overlays.map { overlay in
      let isFirst = seen.insert(overlay.pfn).inserted
      let isShown = isFirst && shownIndex(at: overlay.pfn) != nil
      return OverlayRecord(
        overlay: overlay,
        underlay: isShown ? CapturedUnderlay.page(bare[overlay.pfn]!).normalized : nil
      )
    }
  }

  /// Adds an overlay that the rules allow.
  public mutating func add(_ overlay: Overlay) {
    if !entries.contains(where: { $0.overlay.pfn == overlay.pfn }), isPaused {
      droppedPFNs.insert(overlay.pfn)
    }
    let before = shownIndex(at: overlay.pfn)
    entries.append(Entry(overlay: overlay))
    if let before, shownIndex(at: overlay.pfn) != before { entries[before].scribble = nil }
  }

  /// Removes an overlay that there is.
  public mutating func remove(_ kind: OverlayKind, vp: UInt32, at pfn: PFN) {
    entries.remove(at: index(kind, vp: vp, at: pfn)!)
    if !entries.contains(where: { $0.overlay.pfn == pfn }) { droppedPFNs.remove(pfn) }
  }

  /// Adds the overlay at `source` at `destination` too: the first half of a move.
  public mutating func copy(
    _ kind: OverlayKind,
    vp: UInt32,
    from source: PFN,
    to destination: PFN
  ) {
    add(entries[index(kind, vp: vp, at: source)!].overlay.moved(to: destination))
  }

  /// Drops the overlays before `limit`, or all of them, after which the manager is paused.
  public mutating func pause(before limit: PFN?) {
    for index in entries.indices where limit.map({ entries[index].overlay.pfn < $0 }) ?? true {
      entries[index].scribble = nil
      droppedPFNs.insert(entries[index].overlay.pfn)
    }
    if limit == nil { isPaused = true }
  }

  /// Applies the overlays before `limit`, or all of them, after which the manager is running.
  public mutating func resume(before limit: PFN?) {
    guard let limit else {
      droppedPFNs = []
      isPaused = false
      return
    }
    droppedPFNs = droppedPFNs.filter { $0 >= limit }
  }

  /// The guest, or the VMM, writes a page of RAM.
  public mutating func write(_ contents: PageContents, at pfn: PFN) {
    guard let top = shownIndex(at: pfn) else {
      bare[pfn] = contents
      return
    }
    if entries[top].overlay.kind.storesContents {
      entries[top].overlay = entries[top].overlay.replacingStoredContents(with: contents)
    } else {
      entries[top].scribble = contents
    }
  }

  private func index(_ kind: OverlayKind, vp: UInt32, at pfn: PFN) -> Int? {
    entries.firstIndex { entry in
      entry.overlay.kind == kind && entry.overlay.vp == vp && entry.overlay.pfn == pfn
    }
  }

  /// The entry that RAM shows at `pfn`.
  private func shownIndex(at pfn: PFN) -> Int? {
    guard bare[pfn] != nil, !droppedPFNs.contains(pfn) else { return nil }
    return entries.indices
      .filter { entries[$0].overlay.pfn == pfn }
      .min { lhs, rhs in
        (entries[lhs].overlay.kind.priority, entries[lhs].overlay.vp)
          < (entries[rhs].overlay.kind.priority, entries[rhs].overlay.vp)
      }
  }
}
