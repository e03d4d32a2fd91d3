/// SIEFP: the 16 event flag bitmaps of a virtual processor's synthetic interrupt controller
/// (TLFS 11.8).
package struct SynICEventPage: GuestWritablePage {
  package var contents: PageContents

  package init(contents: PageContents) {
    self.contents = contents
  }

  package static let name = "synic-event"
  package static let priority = 3
  package static let msrIndex: UInt32 = 0x4000_0082  // HV_X64_MSR_SIEFP
  package static let isInVersion1 = true

  package static let jsonSchema = OverlayKindSchema(
    description: "SIEFP: the event flags of a virtual processor's synthetic interrupt controller."
  )
}

extension OverlayKind {
  /// SIEFP: the 16 event flag bitmaps of a virtual processor's synthetic interrupt controller
  /// (TLFS 11.8).
  public static let synicEvent = SynICEventPage.kind
}

extension OverlayParameters {
  /// The page as the guest and the hypervisor left it.
  public static func synicEvent(_ contents: PageContents) -> OverlayParameters {
    OverlayParameters(SynICEventPage(contents: contents))
  }
}
