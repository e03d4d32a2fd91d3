/// Checked overlays, by the page that they cover: what to lay where in which order.
///
/// Made by ``OverlayDocument/validated(in:)``.
public struct OverlayPlan: Hashable, Sendable {
  /// One for each PFN with overlays, in ascending order of PFN.
  public let stacks: [OverlayStack]
}

/// The overlays at one PFN.
public struct OverlayStack: Hashable, Sendable {
  /// The page that they cover.
  public let pfn: PFN

  /// Whether the PFN is RAM. If not, nothing is applied, and the stack is one reference TSC page:
  /// the TLFS lets a guest place that one anywhere (12.7.1).
  public let isInRAM: Bool

  /// At least one; the active overlay first, then the pending ones in order of priority.
  public let overlays: [Overlay]

  /// What captured RAM shows at the PFN; `nil`: it is bare. Never a `page` of zeros, which is
  /// `zero`.
  public let underlay: CapturedUnderlay?

  /// The overlay that the guest sees; `nil` outside RAM.
  public var active: Overlay? { isInRAM ? overlays.first : nil }

  /// Whether the overlay's bytes were written over RAM and the underlay is lost.
  public var isBaked: Bool { underlay == .unknown }
}
