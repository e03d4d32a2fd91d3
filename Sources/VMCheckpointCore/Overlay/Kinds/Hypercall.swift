/// The code in a hypercall page. Each hypervisor writes its own.
///
/// The raw values are the variants' names in overlays.json and in the store.
public enum HypercallVariant: String, CaseIterable, Sendable, Codable {
  /// Propolis, which has no hypercalls: `mov rax, 2; ret`, which is
  /// HV_STATUS_INVALID_HYPERCALL_CODE (`enlightenment/hyperv/hypercall.rs`).
  case returnNotSupported = "return-not-supported"
  /// KVM on Intel: `vmcall; ret` (Linux `arch/x86/kvm/hyperv.c`).
  case vmcall
  /// KVM on AMD: `vmmcall; ret`.
  case vmmcall
  /// KVM on Intel for a guest with Xen's hypercalls too: `or eax, 0x80000000` comes first.
  case xenVMCall = "xen-vmcall"
  /// KVM on AMD for a guest with Xen's hypercalls too.
  case xenVMMCall = "xen-vmmcall"
  /// OpenVMM on Intel: `vmcall; ret`, entries for VTL call and VTL return, and `int3` in the rest
  /// of the page (`hv1_emulator/src/hv.rs`).
  ///
  /// OpenVMM writes `vmmcall` on AMD. That page has no name in format 1.
  case openvmm
}

extension HypercallVariant {
  /// The variant for a guest that moves to a CPU of `vendor`.
  ///
  /// Only ``vmcall`` and ``vmmcall`` change into each other. The others stay as they are: a
  /// hypervisor that offers Xen's hypercalls too, and OpenVMM, write the page again themselves
  /// when the guest's registers are set.
  public func retargeted(to vendor: CPUVendor) -> HypercallVariant {
    switch (self, vendor) {
    case (.vmmcall, .intel): .vmcall
    case (.vmcall, .amd): .vmmcall
    default: self
    }
  }

  /// The vendor of the CPUs that have the page's hypercall instruction; `nil` when the page has
  /// none.
  public var cpuVendor: CPUVendor? {
    switch self {
    case .returnNotSupported: nil
    case .vmcall, .xenVMCall, .openvmm: .intel
    case .vmmcall, .xenVMMCall: .amd
    }
  }

  /// The page's first bytes; ``fillByte`` fills the rest.
  package var code: [UInt8] {
    switch self {
    case .returnNotSupported: [0x48, 0xc7, 0xc0, 0x02, 0x00, 0x00, 0x00, 0xc3]
    case .vmcall: Self.vmcallInstruction + [Self.ret]
    case .vmmcall: Self.vmmcallInstruction + [Self.ret]
    case .xenVMCall: Self.xenPrefix + Self.vmcallInstruction + [Self.ret]
    case .xenVMMCall: Self.xenPrefix + Self.vmmcallInstruction + [Self.ret]
    case .openvmm: Self.openVMMCode
    }
  }

  /// The byte that fills the page behind ``code``.
  package var fillByte: UInt8 {
    switch self {
    case .openvmm: 0xcc  // int3
    default: 0
    }
  }

  /// How much of the page the hypervisor itself writes: KVM writes its instructions alone.
  package var determinedByteCount: Int {
    switch self {
    case .vmcall, .vmmcall, .xenVMCall, .xenVMMCall: code.count
    case .returnNotSupported, .openvmm: Page.byteCount
    }
  }

  private static let ret: UInt8 = 0xc3
  private static let vmcallInstruction: [UInt8] = [0x0f, 0x01, 0xc1]
  private static let vmmcallInstruction: [UInt8] = [0x0f, 0x01, 0xd9]
  /// `or eax, 0x80000000`
  private static let xenPrefix: [UInt8] = [0x0d, 0x00, 0x00, 0x00, 0x80]

  /// 50 bytes: the hypercall at 0; VTL call (HvCallVtlCall, 0x11) at 0x4 for 32-bit and 0xf for
  /// 64-bit callers; VTL return (HvCallVtlReturn, 0x12) at 0x1b and 0x26.
  private static var openVMMCode: [UInt8] {
    let call = vmcallInstruction + [ret]
    func entries(callCode: UInt8) -> [UInt8] {
      // mov ecx, eax; mov eax, callCode
      [0x89, 0xc1, 0xb8, callCode, 0x00, 0x00, 0x00] + call
        // mov rax, rcx; mov ecx, callCode
        + [0x48, 0x89, 0xc8, 0xb9, callCode, 0x00, 0x00, 0x00] + call
    }
    return call + entries(callCode: 0x11) + entries(callCode: 0x12)
  }
}

extension HypercallVariant: OverlayKindDefinition {
  package static let name = "hypercall"
  package static let priority = 0
  package static let scope = OverlayScope.vm
  package static let msrIndex: UInt32 = 0x4000_0001  // HV_X64_MSR_HYPERCALL
  package static let isInVersion1 = true
  package static let needsGuestOSID = true
  package static let hasLock = true

  package static let parameterKeys = ["variant"]

  package init(_ object: StrictJSONObject, contents: PageContents?) throws(VMCheckpointError) {
    let name = try object.string("variant")
    guard let variant = HypercallVariant(rawValue: name) else {
      throw object.invalid(
        "variant",
        "unknown variant \(quotedForMessage(name)); expected one of \(rawValues(Self.self))"
      )
    }
    self = variant
  }

  package var jsonMembers: [(key: String, json: String)] { [("variant", "\"\(rawValue)\"")] }

  package static let jsonSchema = OverlayKindSchema(
    description: "The code that the guest calls to reach the hypervisor.",
    required: ["variant"],
    properties: [
      """
      "variant": {
        "description": "Whose code: Propolis, KVM on Intel, KVM on AMD, KVM with Xen's hypercalls on Intel and on AMD, OpenVMM on Intel.",
        "enum": [
          \(allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", "))
        ]
      }
      """
    ]
  )

  package var contents: PageContents { PageContents(prefix: code, fill: fillByte) }

  package func retargeted(
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> HypercallVariant {
    cpuVendor.map(retargeted(to:)) ?? self
  }
}

extension OverlayKind {
  /// The code that a guest calls to reach the hypervisor (TLFS 3.13, "Establishing the Hypercall
  /// Interface").
  public static let hypercall = HypercallVariant.kind
}

extension OverlayParameters {
  /// Which hypervisor's code.
  public static func hypercall(_ variant: HypercallVariant) -> OverlayParameters {
    OverlayParameters(variant)
  }

  /// Which hypervisor's code; `nil` for other kinds.
  public var hypercallVariant: HypercallVariant? { value as? HypercallVariant }
}
