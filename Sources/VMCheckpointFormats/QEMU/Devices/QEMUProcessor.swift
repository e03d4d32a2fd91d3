/// The registers of a guest's virtual CPU, out of a migration stream.
///
/// Source: QEMU `target/i386/machine.c`, `vmstate_x86_cpu`.
struct QEMUProcessor: Hashable {
  /// A segment register, or a table's.
  struct Segment: Hashable {
    var selector: UInt32
    var base: UInt64
    var limit: UInt32
    var flags: UInt32
  }

  /// Counted from 0.
  var index: UInt32
  /// rax rcx rdx rbx rsp rbp rsi rdi r8 to r15. A 32-bit QEMU has but eight; the rest is 0.
  var general: [UInt64]
  var instructionPointer: UInt64
  var flags: UInt64
  /// es cs ss ds fs gs.
  var segments: [Segment]
  var ldt: Segment
  var tr: Segment
  var gdt: Segment
  var idt: Segment
  /// cr0 to cr4; cr1 is 0.
  var control: [UInt64]
  var kernelGSBase: UInt64
  var isInLongMode: Bool

  /// All CPUs of a guest.
  ///
  /// - Returns: `nil` when one lacks a register, or there is none: then it is not known how to read them.
  static func all(in sections: QEMUDeviceSections) -> [QEMUProcessor]? {
    let devices = sections.devices(named: "cpu")
    let processors = devices.compactMap { QEMUProcessor($0.instanceID, $0.fields) }
    return processors.isEmpty || processors.count < devices.count ? nil : processors
  }

  private init?(_ index: UInt32, _ fields: QEMUDeviceFields) {
    /// Bit 14 of QEMU's own flags, `HF_LMA_MASK`.
    let longMode: UInt64 = 1 << 14
    func segment(_ name: String) -> Segment? {
      fields.structures(name)?.first.flatMap(Self.segment)
    }
    let segments = fields.structures("env.segs")?.compactMap(Self.segment)
    guard let general = fields.integers("env.regs"), [8, 16].contains(general.count),
      let instructionPointer = fields.integer("env.eip"), let flags = fields.integer("env.eflags"),
      let hiddenFlags = fields.integer("env.hflags"), let segments, segments.count == 6,
      let ldt = segment("env.ldt"), let tr = segment("env.tr"), let gdt = segment("env.gdt"),
      let idt = segment("env.idt"), let cr0 = fields.integer("env.cr[0]"),
      let cr2 = fields.integer("env.cr[2]"), let cr3 = fields.integer("env.cr[3]"),
      let cr4 = fields.integer("env.cr[4]")
    else { return nil }
    self.index = index
    self.general = general + [UInt64](repeating: 0, count: 16 - general.count)
    self.instructionPointer = instructionPointer
    self.flags = flags
    self.segments = segments
    self.ldt = ldt
    self.tr = tr
    self.gdt = gdt
    self.idt = idt
    control = [cr0, 0, cr2, cr3, cr4]
    // Only where the CPU can have 64 bits.
    kernelGSBase = fields.integer("env.kernelgsbase") ?? 0
    isInLongMode = hiddenFlags & longMode != 0
  }

  private static func segment(_ fields: QEMUDeviceFields) -> Segment? {
    guard let selector = fields.integer("selector"), let base = fields.integer("base"),
      let limit = fields.integer("limit"), let flags = fields.integer("flags")
    else { return nil }
    return Segment(
      selector: UInt32(truncatingIfNeeded: selector),
      base: base,
      limit: UInt32(truncatingIfNeeded: limit),
      flags: UInt32(truncatingIfNeeded: flags)
    )
  }
}
