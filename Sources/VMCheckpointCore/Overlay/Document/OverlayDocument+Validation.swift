extension OverlayDocument {
  /// Applies the overlay rules to the document for a guest with the RAM of `layout`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when there are more than
  ///   ``maximumRecordCount`` overlays, a hypercall page is enabled
  ///   though the guest OS ID is 0, a PFN is outside RAM (for a reference TSC page that is
  ///   allowed), two overlays of one kind (and virtual processor) share a PFN, a TSC frequency is
  ///   out of range, or records of one PFN disagree about its underlay.
  /// - Complexity: O(*n* log *n*) in the number of records.
  public func validated(in layout: RAMLayout) throws(VMCheckpointError) -> OverlayPlan {
    // What could not be read again is not saved.
    guard records.count <= Self.maximumRecordCount else {
      throw .invalidData(
        "\(records.count) overlays are more than the \(Self.maximumRecordCount) that overlays.json "
          + "can hold",
        hint: "look for what adds them: a VM of 4096 virtual processors has 12,290"
      )
    }
    for (index, record) in records.enumerated() {
      try check(record, at: Self.path(index), in: layout)
    }
    let order = records.indices.sorted { lhs, rhs in
      let (left, right) = (records[lhs].overlay, records[rhs].overlay)
      if left.pfn != right.pfn { return left.pfn < right.pfn }
      if left.precedes(right) { return true }
      if right.precedes(left) { return false }
      return lhs < rhs
    }
    try rejectDuplicates(inOrder: order)

    var stacks: [OverlayStack] = []
    var rest = order[...]
    while let first = rest.first {
      let pfn = records[first].overlay.pfn
      let stack = rest.prefix { records[$0].overlay.pfn == pfn }
      rest = rest.dropFirst(stack.count)
      stacks.append(
        OverlayStack(
          pfn: pfn,
          isInRAM: layout.contains(pfn),
          overlays: stack.map { records[$0].overlay },
          underlay: try agreedUnderlay(of: stack)
        )
      )
    }
    return OverlayPlan(stacks: stacks)
  }

  private static func path(_ index: Int) -> JSONPath {
    JSONPath(components: [.key("overlays"), .index(index)])
  }

  private func check(
    _ record: OverlayRecord,
    at path: JSONPath,
    in layout: RAMLayout
  ) throws(VMCheckpointError) {
    let overlay = record.overlay
    let definition = overlay.kind.definition
    if definition.needsGuestOSID, guestOSID == 0 {
      throw path.invalid(
        "a \(overlay.kind) overlay cannot be enabled while guest_os_id is 0",
        hint: "leave guest_os_id out if it is not known"
      )
    }
    if let defect = overlay.parameters.value.defect {
      throw path.appending(.key(defect.key)).invalid(defect.message)
    }
    guard !layout.contains(overlay.pfn) else { return }
    guard definition.mayBeOutsideRAM else {
      throw path.appending(.key("pfn")).invalid(
        "\(overlay.pfn) is outside the guest's RAM",
        hint: "check the memory regions, and that this is a PFN and not an address"
      )
    }
    guard record.underlay == nil else {
      throw path.appending(.key("underlay")).invalid(
        "nothing lies beneath PFN \(overlay.pfn), which is outside the guest's RAM"
      )
    }
  }

  /// - Parameter order: Indices of ``records`` sorted by PFN, kind and virtual processor.
  private func rejectDuplicates(inOrder order: [Int]) throws(VMCheckpointError) {
    for (first, second) in zip(order, order.dropFirst()) {
      let (earlier, later) = (records[first].overlay, records[second].overlay)
      if later.pfn == earlier.pfn, later.kind == earlier.kind, later.vp == earlier.vp {
        throw Self.path(second).invalid("a second \(later), beside \(Self.path(first))")
      }
    }
  }

  /// What those of the records at `indices`, all of one PFN, that give an underlay give.
  private func agreedUnderlay(
    of indices: ArraySlice<Int>
  ) throws(VMCheckpointError) -> CapturedUnderlay? {
    var agreed: (underlay: CapturedUnderlay, index: Int)?
    for index in indices {
      guard let underlay = records[index].underlay?.normalized else { continue }
      guard let first = agreed else {
        agreed = (underlay, index)
        continue
      }
      guard underlay == first.underlay else {
        throw Self.path(index).appending(.key("underlay")).invalid(
          "disagrees with \(Self.path(first.index)) about what lies beneath PFN "
            + "\(records[index].overlay.pfn)"
        )
      }
    }
    return agreed?.underlay
  }
}
