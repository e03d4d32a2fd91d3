import VMCheckpoint

/// The registers of Hyper-V's interface as a VMM has saved them for each virtual processor, and the overlays
/// that they place.
///
/// KVM has no overlays: it writes over RAM. So what RAM shows at such a page is the overlay, and what lay
/// beneath is lost: its record is baked. A VMM that has true overlays gives their contents beside the
/// registers, and RAM is bare there.
struct HyperVMSRs {
  /// A virtual processor's registers: at least those of Hyper-V.
  typealias Registers = [UInt32: UInt64]

  /// HV_X64_MSR_VP_INDEX.
  static let processorIndex: UInt32 = 0x4000_0002

  private var guestOSID: UInt64?
  /// Of kinds that belong to the VM.
  private var vmRegisters: [OverlayKind: UInt64] = [:]
  /// Of kinds that belong to a virtual processor.
  private var processorRegisters: [(vp: UInt32, kind: OverlayKind, value: UInt64)] = []

  /// - Parameter processors: The registers of each virtual processor, in the VMM's order.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when they contradict each other.
  init(_ processors: [Registers]) throws(VMCheckpointError) {
    var seen: Set<UInt32> = []
    for (number, registers) in processors.enumerated() {
      let index = registers[Self.processorIndex] ?? UInt64(number)
      guard let vp = UInt32(exactly: index), seen.insert(vp).inserted else {
        throw Self.invalid("two virtual processors have the index \(index)")
      }
      if let value = registers[GuestOSID.msrIndex] {
        guard value == guestOSID ?? value else { throw Self.disagreement(GuestOSID.msrIndex) }
        guestOSID = value
      }
      for kind in OverlayKind.allCases {
        guard let value = registers[kind.msrIndex] else { continue }
        switch kind.scope {
        case .vp: processorRegisters.append((vp, kind, value))
        case .vm:
          guard value == vmRegisters[kind] ?? value else { throw Self.disagreement(kind.msrIndex) }
          vmRegisters[kind] = value
        }
      }
    }
  }

  /// The registers that place an overlay, each with its virtual processor, in the order of stacks.
  private var enabled: [(vp: UInt32, register: OverlayMSR)] {
    let all =
      vmRegisters.map { (vp: UInt32(0), kind: $0.key, value: $0.value) } + processorRegisters
    return all.map { (vp: $0.vp, register: OverlayMSR(kind: $0.kind, value: $0.value)) }
      .filter { $0.register.isEnabled }
      .sorted { ($0.register.kind.priority, $0.vp) < ($1.register.kind.priority, $1.vp) }
  }

  /// Whether a register places `overlay` where it is.
  func places(_ overlay: Overlay) -> Bool {
    let value =
      switch overlay.kind.scope {
      case .vm: vmRegisters[overlay.kind]
      case .vp: processorRegisters.first { $0.vp == overlay.vp && $0.kind == overlay.kind }?.value
      }
    guard let value else { return false }
    let register = OverlayMSR(kind: overlay.kind, value: value)
    return register.isEnabled && register.pfn == overlay.pfn
  }

  /// Where restored RAM does not go with these registers, which the restored guest has: a line for each page.
  ///
  /// KVM writes a hypercall page and a reference TSC page anew when it gets their registers. It takes the contents
  /// of the others from RAM.
  func disagreements(with restore: Restoration) -> [String] {
    disagreements(written: restore.writtenOverlays, omitted: restore.omittedOverlays)
  }

  /// The same, by the overlays that RAM gets, and those that it does not get.
  func disagreements(written: [Overlay], omitted: [Overlay]) -> [String] {
    written.filter { !places($0) }.map {
      "RAM at PFN \($0.pfn) gets a \($0.kind) page that no register of the saved device state places there"
    }
      + omitted.filter { $0.kind.storesContents && places($0) }.map {
        "RAM at PFN \($0.pfn) is bare, where a register of the saved device state places a \($0.kind) page"
      }
  }

  /// The overlays that the registers place, and what the guest says it is.
  ///
  /// - Parameters:
  ///   - ramPage: What RAM shows at a PFN; `nil` outside RAM.
  ///   - coveringPage: The contents of a true overlay of a virtual processor, over bare RAM; `nil`: RAM shows it.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when a register cannot have its value; or what
  ///   `ramPage` or `coveringPage` throws.
  func overlayDocument(
    ramPage: (PFN) throws(VMCheckpointError) -> PageContents?,
    coveringPage: (OverlayMSR, UInt32) throws(VMCheckpointError) -> PageContents? = { _, _ in nil }
  ) throws(VMCheckpointError) -> OverlayDocument {
    var records: [OverlayRecord] = []
    for (vp, register) in enabled {
      if register.kind.definition.needsGuestOSID, guestOSID == 0 {
        throw Self.invalid("the \(register.kind) page is enabled while the guest OS ID is 0")
      }
      let covering = try coveringPage(register, vp)
      let shown = try ramPage(register.pfn)
      guard shown != nil || register.kind.definition.mayBeOutsideRAM else {
        throw Self.invalid(
          "MSR \(hexString(UInt64(register.kind.msrIndex))) places the \(register.kind) page at PFN "
            + "\(register.pfn), which is outside the guest's RAM"
        )
      }
      guard let parameters = Self.parameters(register.kind, covering ?? shown ?? .zero),
        let overlay = register.overlay(vp: vp, parameters: parameters)
      else { continue }
      let isBaked = covering == nil && shown != nil
      records.append(OverlayRecord(overlay: overlay, underlay: isBaked ? .unknown : nil))
    }
    // 0 means that the guest never set it, as every guest does that does not know Hyper-V.
    let named = records.isEmpty && guestOSID == 0 ? nil : guestOSID
    return OverlayDocument(guestOSID: named, records: records)
  }

  /// What a page of this kind with these bytes says. Where they are not of the kind, the save warns.
  private static func parameters(_ kind: OverlayKind, _ page: PageContents) -> OverlayParameters? {
    switch kind {
    case .hypercall: .hypercall(hypercallVariant(page))
    case .referenceTSC:
      .referenceTSC(
        .page(
          sequence: page.bytes.littleEndian(at: 0, as: UInt32.self),
          scale: page.bytes.littleEndian(at: 8, as: UInt64.self),
          offset: page.bytes.littleEndian(at: 16, as: Int64.self)
        )
      )
    default: .stored(kind, page)
    }
  }

  /// KVM's variants, the longest first: none begins like another.
  private static func hypercallVariant(_ page: PageContents) -> HypercallVariant {
    let variants: [HypercallVariant] = [.vmcall, .vmmcall, .xenVMCall, .xenVMMCall]
    return variants.first { page.bytes.starts(with: $0.code) } ?? .vmcall
  }

  private static func disagreement(_ index: UInt32) -> VMCheckpointError {
    invalid("virtual processors have different values of MSR \(hexString(UInt64(index)))")
  }

  private static func invalid(_ message: String) -> VMCheckpointError {
    .invalidData(
      "has Hyper-V registers that make no sense: \(message)",
      hint: "--overlays none saves it without looking for overlays"
    )
  }
}
