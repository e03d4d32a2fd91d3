/// What distinguishes two overlays of one kind. Kind and parameters determine the page.
public enum OverlayParameters: Hashable, Sendable {
  /// Which hypervisor's code.
  case hypercall(HypercallVariant)
  /// How the TSC turns into reference time.
  case referenceTSC(ReferenceTSC)
  /// The page as the guest and the hypervisor left it.
  case synicMessage(PageContents)
  /// The page as the guest and the hypervisor left it.
  case synicEvent(PageContents)
  /// The page as the guest and the hypervisor left it.
  case vpAssist(PageContents)

  /// The parameters of a kind that stores its contents; `nil` for the other kinds.
  public static func stored(_ kind: OverlayKind, _ contents: PageContents) -> OverlayParameters? {
    switch kind {
    case .hypercall, .referenceTSC: nil
    case .synicMessage: .synicMessage(contents)
    case .synicEvent: .synicEvent(contents)
    case .vpAssist: .vpAssist(contents)
    }
  }

  /// The kind that these parameters belong to.
  public var kind: OverlayKind {
    switch self {
    case .hypercall: .hypercall
    case .referenceTSC: .referenceTSC
    case .synicMessage: .synicMessage
    case .synicEvent: .synicEvent
    case .vpAssist: .vpAssist
    }
  }

  /// The bytes that the guest may write; `nil` for kinds whose contents are derived.
  public var storedContents: PageContents? {
    switch self {
    case .hypercall, .referenceTSC: nil
    case .synicMessage(let contents), .synicEvent(let contents), .vpAssist(let contents): contents
    }
  }
}
