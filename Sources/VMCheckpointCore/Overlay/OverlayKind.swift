/// What an overlay page is for. One register of the hypervisor interface places each kind.
///
/// The raw values are the kinds' names in overlays.json and in the store.
public enum OverlayKind: String, CaseIterable, Sendable, Codable {
  /// The code that a guest calls to reach the hypervisor (TLFS 3.13, "Establishing the Hypercall
  /// Interface").
  case hypercall
  /// Scale and offset that turn the TSC into reference time (TLFS 12.7, "Partition Reference TSC
  /// Mechanism").
  case referenceTSC = "reference-tsc"
  /// SIMP: the 16 message slots of a virtual processor's synthetic interrupt controller
  /// (TLFS 11.8).
  case synicMessage = "synic-message"
  /// SIEFP: the 16 event flag bitmaps of a virtual processor's synthetic interrupt controller
  /// (TLFS 11.8).
  case synicEvent = "synic-event"
  /// The page that a virtual processor and the hypervisor share, for EOI assists and VTL control
  /// (TLFS 7.8.7).
  case vpAssist = "vp-assist"
}

/// What an overlay belongs to.
public enum OverlayScope: String, Sendable, Codable, CaseIterable {
  /// The whole virtual machine.
  case vm
  /// One virtual processor.
  case vp
}

extension OverlayKind {
  /// Which of several overlays at one PFN the guest sees: the lowest.
  ///
  /// The TLFS leaves the order open (5.2.1). It is fixed here, and so are the numbers: they are
  /// part of the store's format and never renumbered. Propolis fixes the first two
  /// (`enlightenment/hyperv/overlay.rs`).
  public var priority: Int {
    switch self {
    case .hypercall: 0
    case .referenceTSC: 1
    case .synicMessage: 2
    case .synicEvent: 3
    case .vpAssist: 4
    }
  }

  /// Whether the virtual machine has one register of this kind or each virtual processor its own.
  public var scope: OverlayScope {
    switch self {
    case .hypercall, .referenceTSC: .vm
    case .synicMessage, .synicEvent, .vpAssist: .vp
    }
  }

  /// Whether the guest may write the page, so that its 4096 bytes are kept; the other kinds'
  /// contents follow from their parameters.
  public var storesContents: Bool {
    switch self {
    case .hypercall, .referenceTSC: false
    case .synicMessage, .synicEvent, .vpAssist: true
    }
  }
}

extension OverlayKind: CustomStringConvertible {
  /// The raw value.
  public var description: String { rawValue }
}
