public import VMCheckpoint

/// An ELF core of the guest's RAM.
///
/// Its notes come from what the snapshot has: of a QEMU guest's device state the CPUs' registers; else the notes
/// of the core that was saved. VMCOREINFO is added if they lack it.
struct ELFForm: RestorationForm {
  let name = "elf"

  /// Of a QEMU guest's device state, a core has the CPUs' registers only.
  func keeps(_ state: DeviceState) -> Bool { state.format == ELFNotes.stateFormat }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    try restore(guest)
  }

  /// What a core of the guest is made of.
  func restore(_ guest: any RestorableGuest) throws -> ELFRestore {
    if try guest.deviceState(format: QEMUStreamCapture.streamFormat) != nil {
      return try restore(guest, QEMUStoredState(guest))
    }
    var notes = ELFNotes.none
    if let state = try guest.deviceState(format: ELFNotes.stateFormat) {
      notes = try ELFNotes(state, of: guest.title)
    }
    return ELFRestore(guest.layout, notes, warnings: [])
  }

  private func restore(
    _ guest: any RestorableGuest,
    _ state: QEMUStoredState
  ) throws -> ELFRestore {
    guard let sections = QEMUDeviceSections(state.stream, ramOffset: state.record.ramOffset),
      let processors = QEMUProcessor.all(in: sections)
    else {
      return ELFRestore(
        guest.layout,
        .none,
        warnings: [
          "\(guest.title): its device state does not say how the CPUs' registers are to be read: "
            + "the core has no notes of them"
        ]
      )
    }
    var notes = ELFProcessorNotes.notes(processors)
    if let place = ELFGuestNote(sections), let bytes = try place.bytes(of: guest),
      let note = VMCoreInfo.note(inGuest: bytes)
    {
      notes.append(note)
    }
    return ELFRestore(guest.layout, notes, warnings: [])
  }
}

/// Where a guest's VMCOREINFO is, as QEMU's device `vmcoreinfo` was told by the guest.
///
/// Source: QEMU `hw/misc/vmcoreinfo.c`, `docs/specs/vmcoreinfo.rst`; format 1 is an ELF note.
private struct ELFGuestNote {
  private let gpa: UInt64
  private let byteCount: UInt64

  init?(_ sections: QEMUDeviceSections) {
    guard let fields = sections.devices(named: "vmcoreinfo").first?.fields,
      fields.integer("has_vmcoreinfo") == 1, fields.integer("vmcoreinfo.guest_format") == 1,
      let byteCount = fields.integer("vmcoreinfo.size"),
      let gpa = fields.integer("vmcoreinfo.paddr"),
      (1...VMCoreInfo.maximumNoteByteCount).contains(byteCount), gpa < RAMLayout.gpaLimit
    else { return nil }
    self.gpa = gpa
    self.byteCount = byteCount
  }

  /// What the guest has there; `nil` when it is not RAM.
  func bytes(of guest: any RestorableGuest) throws -> [UInt8]? {
    let end = gpa + byteCount
    var bytes: [UInt8] = []
    var next = gpa
    while next < end {
      let pfn = PFN(gpa: next)
      guard guest.layout.contains(pfn) else { return nil }
      let page = try guest.page(at: pfn)
      let upperBound = min(end - pfn.gpa, UInt64(Page.byteCount))
      bytes += page.bytes[Int(next - pfn.gpa)..<Int(upperBound)]
      next = pfn.gpa + upperBound
    }
    return bytes
  }
}

extension RestoreFormat {
  /// An ELF core that crash, drgn, volatility3 and makedumpfile open.
  public static let elf = RestoreFormat(ELFForm())
}
