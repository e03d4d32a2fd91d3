import VMCheckpoint

extension QEMUStreamCapture {
  /// Where a snapshot's overlays come from that are found here.
  static let overlayOrigin = "qemu-device-state"

  /// The overlays that the Hyper-V registers of the guest's CPUs place.
  ///
  /// KVM writes over RAM, but for SynIC's pages: for these QEMU has pages of its own, which it lays over RAM. Machine
  /// types up to 3.0 have none: there KVM writes SynIC's pages into RAM, too.
  ///
  /// - Parameter ramPage: What RAM shows at a PFN; `nil` outside RAM.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when the registers cannot be read or make no
  ///   sense; or what `ramPage` throws.
  func overlays(
    ramPage: (PFN) throws(VMCheckpointError) -> PageContents?
  ) throws(VMCheckpointError) -> OverlayDocument {
    do throws(VMCheckpointError) {
      let processors = try QEMUHyperVRegisters.all(
        in: streamState.data,
        ramOffset: record.ramOffset
      )
      return try HyperVMSRs(processors).overlayDocument(
        ramPage: ramPage,
        coveringPage: { (register, vp) throws(VMCheckpointError) in
          try synicPage(register, vp: vp)
        }
      )
    } catch {
      throw error.code == .invalidData ? error.continuing(title) : error
    }
  }

  /// The page that QEMU lays over RAM where a register places it.
  private func synicPage(
    _ register: OverlayMSR,
    vp: UInt32
  ) throws(VMCheckpointError) -> PageContents? {
    guard QEMUHyperVState.mayCover(register.pfn),
      let name = QEMURAMBlock.synicPageName(register.kind, vp: vp),
      let block = contents.blocks.first(where: { $0.name == name })
    else { return nil }
    guard block.byteCount == UInt64(Page.byteCount) else {
      throw .invalidData("has RAM block \(quotedName(block.text)) of \(block.byteCount) bytes")
    }
    guard contents.pages.hasBytes(at: block.spoolOffset) else { return .zero }
    let page = try LargeMemory.allocate(byteCount: Page.byteCount)
    defer { LargeMemory.free(page) }
    try contents.pages.read(into: page, at: block.spoolOffset)
    return PageContents(copying: UnsafeRawBufferPointer(page))
  }
}

/// What QEMU makes of a migration stream's Hyper-V registers when it takes the stream: it lays pages of its own over
/// RAM for SynICs, and gives all registers to KVM.
///
/// Source: QEMU `hw/hyperv/hyperv.c`, `target/i386/kvm/hyperv.c`.
struct QEMUHyperVState {
  /// What the stream has; `nil` when it cannot be read or makes no sense.
  private let registers: HyperVMSRs?
  /// The stream up to RAM, which has the list of blocks.
  private let head: [UInt8]

  /// - Parameters:
  ///   - stream: A stream without the guest's RAM.
  ///   - ramOffset: Where in it RAM belongs.
  init(_ stream: [UInt8], ramOffset: Int) {
    let processors = try? QEMUHyperVRegisters.all(in: stream, ramOffset: ramOffset)
    registers = processors.flatMap { try? HyperVMSRs($0) }
    head = Array(stream[..<ramOffset])
  }

  /// Whether QEMU lays a page over `pfn`. Address 0 means to it that there is no page.
  static func mayCover(_ pfn: PFN) -> Bool { pfn.rawValue != 0 }

  /// Says where restored RAM does not go with the registers.
  func warn(of restore: Restoration) {
    for warning in registers?.disagreements(with: restore) ?? [] {
      restore.control.onWarning?(warning)
    }
  }

  /// Says the same of RAM that is not written, but served.
  func disagreements(with plan: RestorePlan, _ treatment: OverlayTreatment) -> [String] {
    registers?.disagreements(
      written: plan.writtenOverlays(treatment),
      omitted: plan.omittedOverlays(treatment)
    ) ?? []
  }

  /// Whether QEMU lays `overlay` over RAM itself.
  func covers(_ overlay: Overlay) -> Bool {
    guard Self.mayCover(overlay.pfn), registers?.places(overlay) == true,
      let name = QEMURAMBlock.synicPageName(overlay.kind, vp: overlay.vp)
    else { return false }
    var entry = [UInt8(name.count)] + name
    entry.appendBigEndian(UInt64(Page.byteCount))
    return head.firstIndex(of: entry, from: 0) != nil
  }
}
