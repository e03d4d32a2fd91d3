/// SIMP: the 16 message slots of a virtual processor's synthetic interrupt controller
/// (TLFS 11.8).
package struct SynICMessagePage: GuestWritablePage {
  package var contents: PageContents

  package init(contents: PageContents) {
    self.contents = contents
  }

  package static let name = "synic-message"
  package static let priority = 2
  package static let msrIndex: UInt32 = 0x4000_0083  // HV_X64_MSR_SIMP
  package static let isInVersion1 = true

  package static let jsonSchema = OverlayKindSchema(
    description: "SIMP: the message slots of a virtual processor's synthetic interrupt controller."
  )
}

extension OverlayKind {
  /// SIMP: the 16 message slots of a virtual processor's synthetic interrupt controller
  /// (TLFS 11.8).
  public static let synicMessage = SynICMessagePage.kind
}

extension OverlayParameters {
  /// The page as the guest and the hypervisor left it.
  public static func synicMessage(_ contents: PageContents) -> OverlayParameters {
    OverlayParameters(SynICMessagePage(contents: contents))
  }
}
