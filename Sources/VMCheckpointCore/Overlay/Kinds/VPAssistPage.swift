/// The page that a virtual processor and the hypervisor share, for EOI assists and VTL control
/// (TLFS 7.8.7).
package struct VPAssistPage: GuestWritablePage {
  package var contents: PageContents

  package init(contents: PageContents) {
    self.contents = contents
  }

  package static let name = "vp-assist"
  package static let priority = 4
  package static let msrIndex: UInt32 = 0x4000_0073  // HV_X64_MSR_VP_ASSIST_PAGE
  package static let isInVersion1 = true

  package static let jsonSchema = OverlayKindSchema(
    description: "The page that a virtual processor and the hypervisor share."
  )
}

extension OverlayKind {
  /// The page that a virtual processor and the hypervisor share, for EOI assists and VTL control
  /// (TLFS 7.8.7).
  public static let vpAssist = VPAssistPage.kind
}

extension OverlayParameters {
  /// The page as the guest and the hypervisor left it.
  public static func vpAssist(_ contents: PageContents) -> OverlayParameters {
    OverlayParameters(VPAssistPage(contents: contents))
  }
}
