/// What captured RAM shows where an overlay was, and what is known to lie beneath.
public enum CapturedUnderlay: Hashable, Sendable {
  /// RAM shows the overlay; a page of zeros lies beneath.
  case zero
  /// RAM shows the overlay; this lies beneath.
  case page(PageContents)
  /// RAM shows the overlay, which was baked: what lay beneath is lost.
  case unknown

  /// `.zero` for a page of zeros, else unchanged, so that equal underlays compare equal.
  public var normalized: CapturedUnderlay {
    if case .page(let contents) = self, contents.isZero { return .zero }
    return self
  }
}

/// An overlay, and what captured RAM shows at its PFN.
public struct OverlayRecord: Hashable, Sendable {
  /// The overlay itself.
  public var overlay: Overlay

  /// `nil`: RAM is bare at the overlay's PFN, or another record of that PFN says what lies
  /// beneath.
  public var underlay: CapturedUnderlay?

  /// A record of `overlay`; without an underlay, of one whose RAM is bare.
  public init(overlay: Overlay, underlay: CapturedUnderlay? = nil) {
    self.overlay = overlay
    self.underlay = underlay
  }
}
