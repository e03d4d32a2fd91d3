/// The overlays at one PFN of a running guest, and what lies beneath them.
///
/// Every method that throws leaves the stack as it was, and RAM with it.
package struct ManagedStack {
  /// The active overlay first. While the stack is applied, the first one's stored contents may be
  /// older than RAM.
  package private(set) var overlays: [Overlay]

  /// What the overlays hide; `nil`: they hide nothing, RAM is bare.
  private var underlay: PageContents?

  /// Whether the underlay is what a hypervisor baked into RAM, and the true one is lost.
  private let isBaked: Bool

  /// A bare stack.
  package init(_ overlay: Overlay) {
    overlays = [overlay]
    underlay = nil
    isBaked = false
  }

  package init(_ stack: OverlayStack) {
    overlays = stack.overlays
    isBaked = stack.isBaked
    underlay =
      switch stack.underlay {
      case .zero: PageContents.zero
      case .page(let contents): contents
      case .unknown, nil: nil
      }
  }

  private var pfn: PFN { overlays[0].pfn }

  private var isApplied: Bool { underlay != nil }

  package func index(of identity: OverlayIdentity) -> Int? {
    overlays.firstIndex { OverlayIdentity($0) == identity }
  }

  /// The overlay with what the guest wrote into it, if RAM shows it.
  package func currentOverlay(at index: Int, in memory: some GuestMemory) throws -> Overlay {
    let overlay = overlays[index]
    guard index == 0, isApplied, overlay.kind.storesContents else { return overlay }
    return overlay.replacingStoredContents(with: try memory.page(at: pfn))
  }

  package func records(in memory: some GuestMemory) throws -> [OverlayRecord] {
    try overlays.indices.map { index in
      OverlayRecord(
        overlay: try currentOverlay(at: index, in: memory),
        underlay: index == 0 ? capturedUnderlay : nil
      )
    }
  }

  private var capturedUnderlay: CapturedUnderlay? {
    isBaked ? .unknown : underlay.map { CapturedUnderlay.page($0).normalized }
  }

  /// The page that the guest sees. Over baked bytes, only those that the hypervisor had written
  /// are written anew: it had left the rest of the page as it was.
  private func contents(of overlay: Overlay, over underlay: PageContents) -> PageContents {
    let contents = overlay.contents()
    guard isBaked else { return contents }
    let count = overlay.determinedByteCount
    return PageContents(Array(contents.bytes[..<count] + underlay.bytes[count...]))!
  }

  /// Covers RAM with the first overlay. Does nothing when applied.
  package mutating func apply(to memory: some GuestMemory) throws {
    guard !isApplied else { return }
    let page = try memory.page(at: pfn)
    try memory.write(contents(of: overlays[0], over: page), at: pfn)
    underlay = page
  }

  /// Uncovers RAM. Does nothing when bare.
  package mutating func drop(from memory: some GuestMemory) throws {
    guard let underlay else { return }
    let current = try currentOverlay(at: 0, in: memory)
    try memory.write(underlay, at: pfn)
    overlays[0] = current
    self.underlay = nil
  }

  /// Adds an overlay of this PFN that is not here yet.
  package mutating func insert(_ overlay: Overlay, in memory: some GuestMemory) throws {
    let index = overlays.firstIndex { overlay.precedes($0) } ?? overlays.count
    if index == 0, let underlay {
      let demoted = try currentOverlay(at: 0, in: memory)
      try memory.write(contents(of: overlay, over: underlay), at: pfn)
      overlays[0] = demoted
    }
    overlays.insert(overlay, at: index)
  }

  /// Notes other bits 11:1 of the register that places an overlay. RAM does not show them.
  package mutating func setBits(_ bits: OverlayMSRBits, at index: Int) {
    overlays[index] = overlays[index].replacingMSRBits(with: bits)
  }

  /// Removes an overlay; when the stack is empty afterwards, RAM is bare.
  package mutating func remove(at index: Int, from memory: some GuestMemory) throws -> Overlay {
    let removed = try currentOverlay(at: index, in: memory)
    if index == 0, let underlay {
      let next = overlays.dropFirst().first.map { contents(of: $0, over: underlay) }
      try memory.write(next ?? underlay, at: pfn)
    }
    overlays.remove(at: index)
    return removed
  }
}
