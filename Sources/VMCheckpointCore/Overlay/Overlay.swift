/// An enabled overlay: a page that the hypervisor lays over a guest page (TLFS 5.2.1).
public struct Overlay: Hashable, Sendable {
  /// The page that it covers.
  public let pfn: PFN

  /// The virtual processor whose register places it; 0 for kinds that belong to the VM.
  public let vp: UInt32

  /// What the page holds.
  public let parameters: OverlayParameters

  /// The bits of its register that are neither the enable bit nor the PFN.
  public let msrBits: OverlayMSRBits

  /// An overlay at `pfn`.
  ///
  /// - Precondition: `vp` is 0 when the kind's scope is the VM.
  public init(
    pfn: PFN,
    parameters: OverlayParameters,
    vp: UInt32 = 0,
    msrBits: OverlayMSRBits = []
  ) {
    precondition(
      parameters.kind.scope == .vp || vp == 0,
      "an overlay of the VM has no virtual processor"
    )
    self.pfn = pfn
    self.parameters = parameters
    self.vp = vp
    self.msrBits = msrBits
  }

  /// The kind, which ``parameters`` imply.
  public var kind: OverlayKind { parameters.kind }

  /// The same overlay at another page.
  public func moved(to pfn: PFN) -> Overlay {
    Overlay(pfn: pfn, parameters: parameters, vp: vp, msrBits: msrBits)
  }

  /// The same overlay, placed by a register with other bits 11:1.
  public func replacingMSRBits(with msrBits: OverlayMSRBits) -> Overlay {
    Overlay(pfn: pfn, parameters: parameters, vp: vp, msrBits: msrBits)
  }

  /// The same overlay with other bytes; unchanged when the kind derives its contents.
  public func replacingStoredContents(with contents: PageContents) -> Overlay {
    guard let parameters = OverlayParameters.stored(kind, contents) else { return self }
    return Overlay(pfn: pfn, parameters: parameters, vp: vp, msrBits: msrBits)
  }

  /// The order in which overlays are in a stack, the active one first: by the kind's priority,
  /// then by virtual processor.
  public func precedes(_ other: Overlay) -> Bool {
    (kind.priority, vp) < (other.kind.priority, other.vp)
  }
}

extension Overlay: CustomStringConvertible {
  /// Such as `hypercall overlay at PFN 0x4000` or `vp-assist overlay of VP 3 at PFN 0x4001`.
  public var description: String { Self.describe(kind: kind, vp: vp, pfn: pfn) }

  package static func describe(kind: OverlayKind, vp: UInt32, pfn: PFN) -> String {
    switch kind.scope {
    case .vm: "\(kind) overlay at PFN \(pfn)"
    case .vp: "\(kind) overlay of VP \(vp) at PFN \(pfn)"
    }
  }
}
