/// What tells two overlays at one PFN apart.
package struct OverlayIdentity: Hashable {
  package let kind: OverlayKind
  package let vp: UInt32

  package init(_ kind: OverlayKind, vp: UInt32) {
    self.kind = kind
    self.vp = kind.scope == .vp ? vp : 0
  }

  package init(_ overlay: Overlay) {
    kind = overlay.kind
    vp = overlay.vp
  }
}

/// The state of an ``OverlayManager``, without its lock.
///
/// Each operation works on a copy of the stack that it changes and stores it when the guest
/// memory has done its part, so that an error on the way changes nothing.
package struct OverlayTable {
  package private(set) var isPaused = false

  /// No stack is empty.
  private var stacks: [PFN: ManagedStack] = [:]

  package init() {}

  package init(restoring plan: OverlayPlan) {
    isPaused = true
    for stack in plan.stacks {
      stacks[stack.pfn] = ManagedStack(stack)
    }
  }

  package func records(in memory: some GuestMemory) throws -> [OverlayRecord] {
    try sortedPFNs.flatMap { try stacks[$0]!.records(in: memory) }
  }

  package mutating func add(_ overlay: Overlay, to memory: some GuestMemory) throws {
    try check(overlay, in: memory)
    if var stack = stacks[overlay.pfn] {
      try stack.insert(overlay, in: memory)
      stacks[overlay.pfn] = stack
    } else {
      var stack = ManagedStack(overlay)
      if !isPaused, memory.contains(overlay.pfn) { try stack.apply(to: memory) }
      stacks[overlay.pfn] = stack
    }
  }

  /// Whether the overlay rules allow `overlay` to be added.
  private func check(
    _ overlay: Overlay,
    in memory: some GuestMemory
  ) throws(VMCheckpointError) {
    if let defect = overlay.parameters.value.defect {
      throw VMCheckpointError(
        .invalidArgument,
        "\(defect.key) of the \(overlay) is \(defect.message)"
      )
    }
    guard memory.contains(overlay.pfn) || overlay.kind.definition.mayBeOutsideRAM else {
      throw VMCheckpointError(.invalidArgument, "the \(overlay) is outside the guest's RAM")
    }
    guard stacks[overlay.pfn]?.index(of: OverlayIdentity(overlay)) == nil else {
      throw VMCheckpointError(.invalidArgument, "there is a \(overlay) already")
    }
  }

  @discardableResult
  package mutating func remove(
    _ identity: OverlayIdentity,
    at pfn: PFN,
    from memory: some GuestMemory
  ) throws -> Overlay {
    var (stack, index) = try find(identity, at: pfn)
    let removed = try stack.remove(at: index, from: memory)
    stacks[pfn] = stack.overlays.isEmpty ? nil : stack
    return removed
  }

  /// - Parameter bits: The register's bits 11:1 from now on; `nil`: as they were.
  package mutating func move(
    _ identity: OverlayIdentity,
    from source: PFN,
    to destination: PFN,
    settingBits bits: OverlayMSRBits? = nil,
    in memory: some GuestMemory
  ) throws {
    var (stack, index) = try find(identity, at: source)
    let bits = bits ?? stack.overlays[index].msrBits
    guard source != destination else {
      stack.setBits(bits, at: index)
      stacks[source] = stack
      return
    }
    try check(stack.overlays[index].moved(to: destination), in: memory)
    let overlay = try stack.currentOverlay(at: index, in: memory)
    try add(overlay.moved(to: destination).replacingMSRBits(with: bits), to: memory)
    do {
      try remove(identity, at: source, from: memory)
    } catch {
      // The first error says more than one of the undoing, after which both stay.
      _ = try? remove(identity, at: destination, from: memory)
      throw error
    }
  }

  package mutating func pause(_ memory: some GuestMemory) throws {
    for pfn in sortedPFNs {
      try stacks[pfn]!.drop(from: memory)
    }
    isPaused = true
  }

  package mutating func resume(_ memory: some GuestMemory) throws {
    for pfn in sortedPFNs where memory.contains(pfn) {
      try stacks[pfn]!.apply(to: memory)
    }
    isPaused = false
  }

  private var sortedPFNs: [PFN] { stacks.keys.sorted() }

  private func find(
    _ identity: OverlayIdentity,
    at pfn: PFN
  ) throws(VMCheckpointError) -> (stack: ManagedStack, index: Int) {
    guard let stack = stacks[pfn], let index = stack.index(of: identity) else {
      let description = Overlay.describe(kind: identity.kind, vp: identity.vp, pfn: pfn)
      throw VMCheckpointError(.notFound, "there is no \(description)")
    }
    return (stack, index)
  }
}
