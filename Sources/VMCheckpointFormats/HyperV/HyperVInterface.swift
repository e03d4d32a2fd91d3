public import VMCheckpoint

/// The registers of Hyper-V's interface that place the overlays of a VM, with what else decides the
/// pages' bytes: the form in which other formats hold overlays.
///
/// What belongs to a virtual processor (SynIC pages, VP assist) is not in it: those pages' bytes do
/// not follow from registers.
public struct HyperVInterface: Hashable, Sendable {
  /// HV_X64_MSR_REFERENCE_TSC and the page that it places.
  public struct ReferenceTSCRegister: Hashable, Sendable {
    /// What the register reads as.
    public var value: UInt64
    /// The page; `nil`: unknown, as registers alone do not tell it.
    public var contents: ReferenceTSC?

    /// Makes one with these values.
    public init(value: UInt64, contents: ReferenceTSC?) {
      self.value = value
      self.contents = contents
    }
  }

  /// HV_X64_MSR_GUEST_OS_ID; `nil`: unknown.
  public var guestOSID: UInt64?
  /// HV_X64_MSR_HYPERCALL.
  public var hypercall: UInt64
  /// Whose code the hypercall page holds.
  public var hypercallVariant: HypercallVariant
  /// `nil`: the VM has no such register.
  public var referenceTSC: ReferenceTSCRegister?

  /// Makes one with these values.
  public init(
    guestOSID: UInt64?,
    hypercall: UInt64,
    hypercallVariant: HypercallVariant = .returnNotSupported,
    referenceTSC: ReferenceTSCRegister? = nil
  ) {
    self.guestOSID = guestOSID
    self.hypercall = hypercall
    self.hypercallVariant = hypercallVariant
    self.referenceTSC = referenceTSC
  }

  /// Whether the guest's hypercall page is enabled.
  public var enablesHypercall: Bool { OverlayMSR(kind: .hypercall, value: hypercall).isEnabled }

  /// How many overlays are enabled.
  public var overlayCount: Int {
    let clock = OverlayMSR(kind: .referenceTSC, value: referenceTSC?.value ?? 0)
    return (enablesHypercall ? 1 : 0) + (clock.isEnabled ? 1 : 0)
  }

  /// Checks what Propolis checks when it imports a state. It tolerates a reference TSC page outside
  /// RAM, as the TLFS does (12.7.1).
  ///
  /// - Parameters:
  ///   - layout: The guest's RAM; `nil`: unknown, so that PFNs are not checked.
  ///   - hasReferenceTSC: Whether the VM that is to import it has a reference TSC; `nil`: unknown.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  ///
  /// Source: propolis `lib/propolis/src/enlightenment/hyperv/mod.rs` at 372a5744.
  public func check(
    layout: RAMLayout? = nil,
    hasReferenceTSC: Bool? = nil
  ) throws(VMCheckpointError) {
    if enablesHypercall {
      guard guestOSID != 0 else {
        throw .invalidData("the hypercall page is enabled while the guest OS ID is 0")
      }
      let pfn = OverlayMSR(kind: .hypercall, value: hypercall).pfn
      if let layout, !layout.contains(pfn) {
        throw .invalidData(
          "the hypercall page is at PFN \(pfn), which is outside the guest's RAM",
          hint: "check the guest's RAM size"
        )
      }
    }
    if let hasReferenceTSC, hasReferenceTSC != (referenceTSC != nil) {
      throw .invalidData(
        hasReferenceTSC
          ? "a VM with a reference TSC cannot import a state without one"
          : "a VM without a reference TSC cannot import a state with one",
        hint: "give the VM the same Hyper-V features as the one that was saved"
      )
    }
    if case .frequency(let hz)? = referenceTSC?.contents,
      !(1...ReferenceTSC.maximumFrequencyHz).contains(hz)
    {
      throw .invalidData(
        "the guest's TSC frequency is \(hz) Hz; expected 1 to \(ReferenceTSC.maximumFrequencyHz)"
      )
    }
  }
}

// MARK: - Overlays

extension HyperVInterface {
  /// The registers that place the overlays of `document`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when registers cannot hold them.
  public init(_ document: OverlayDocument) throws(VMCheckpointError) {
    self.init(guestOSID: document.guestOSID, hypercall: 0)
    var seen: Set<OverlayKind> = []
    for (index, record) in document.records.enumerated() {
      let overlay = record.overlay
      let path = JSONPath(components: [.key("overlays"), .index(index)])
      guard overlay.kind.scope == .vm else {
        throw path.invalid(
          "a \(overlay.kind) overlay is a page that the guest writes, and no register holds it",
          hint: "leave it out, and keep its overlays.json"
        )
      }
      guard seen.insert(overlay.kind).inserted else {
        throw path.invalid("a second \(overlay.kind) overlay, and a VM has one register for it")
      }
      let value = OverlayMSR(overlay).value
      if let variant = overlay.parameters.hypercallVariant {
        hypercall = value
        hypercallVariant = variant
      } else if let contents = overlay.parameters.referenceTSC {
        referenceTSC = ReferenceTSCRegister(value: value, contents: contents)
      } else {
        throw path.invalid(
          "Propolis has no register for a \(overlay.kind) overlay",
          hint: "leave it out, and keep its overlays.json"
        )
      }
    }
  }

  /// The overlays that the registers place over bare RAM.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when a reference TSC page is
  ///   placed of which nothing is known.
  public func overlayDocument() throws(VMCheckpointError) -> OverlayDocument {
    var records: [OverlayRecord] = []
    if let overlay = OverlayMSR(kind: .hypercall, value: hypercall)
      .overlay(parameters: .hypercall(hypercallVariant))
    {
      records.append(OverlayRecord(overlay: overlay))
    }
    if let referenceTSC {
      let register = OverlayMSR(kind: .referenceTSC, value: referenceTSC.value)
      if register.isEnabled {
        guard let contents = referenceTSC.contents else { throw Self.unknownFrequency }
        if let overlay = register.overlay(parameters: .referenceTSC(contents)) {
          records.append(OverlayRecord(overlay: overlay))
        }
      }
    }
    return OverlayDocument(guestOSID: guestOSID, records: records)
  }

  static let unknownFrequency = VMCheckpointError(
    .invalidArgument,
    "the frequency of the guest's TSC is not known, and its reference TSC page depends on it",
    hint: "give it with --tsc-frequency"
  )
}
