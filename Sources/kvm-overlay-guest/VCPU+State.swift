import CKVM
import VMCheckpoint

extension VCPU {
  /// 64-bit mode at the guest's first instruction.
  ///
  /// A VMM with firmware starts in real mode at the reset vector instead; this guest has nothing
  /// that would bring it from there to here.
  func setBootState(hypercallPFN: PFN, referenceTSCPFN: PFN) throws {
    var system = try systemRegisters
    // AMD APM volume 2, 4.8: code with L set; base and limit of the others are not used.
    let code = segment(selector: 0x8, type: 0b1011, isCode: true)
    let data = segment(selector: 0x10, type: 0b0011, isCode: false)
    system.cs = code
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data)
    system.cr3 = GuestMemoryMap.pageMapLevel4
    system.cr4 = 1 << 5  // PAE
    system.cr0 = 1 << 31 | 1 << 4 | 1 << 0  // PG, ET, PE
    system.efer = 1 << 10 | 1 << 8  // LMA, LME
    try setSystemRegisters(system)

    var registers = kvm_regs()
    registers.rip = GuestMemoryMap.code
    registers.rsp = GuestMemoryMap.stackEnd
    registers.rflags = 1 << 1  // always 1
    registers.rdi = hypercallPFN.gpa
    registers.rsi = referenceTSCPFN.gpa
    registers.r14 = GuestMemoryMap.report
    try setRegisters(registers)
  }

  private func segment(selector: UInt16, type: UInt8, isCode: Bool) -> kvm_segment {
    var segment = kvm_segment()
    segment.selector = selector
    segment.type = type
    segment.limit = .max
    (segment.present, segment.s, segment.g) = (1, 1, 1)
    (segment.l, segment.db) = isCode ? (1, 0) : (0, 1)
    return segment
  }

  private static var deviceStateName: String { "vcpu0" }
  private static var deviceStateFormat: String { "kvm-regs-sregs" }

  /// All that this guest has of vCPU state but its TSC: general and system registers, as KVM's
  /// structures lay them out.
  ///
  /// A guest with an operating system has more: FPU and vector state (KVM_GET_XSAVE, XCRS), MSRs
  /// (KVM_GET_MSR_INDEX_LIST), pending events (KVM_GET_VCPU_EVENTS), debug registers, its local
  /// APIC, and whether it is halted (KVM_GET_MP_STATE). Each is one more blob like this.
  ///
  /// - Precondition: ``completeExit()``.
  func deviceState() throws -> DeviceState {
    let (registers, system) = (try registers, try systemRegisters)
    return DeviceState(
      name: Self.deviceStateName,
      format: Self.deviceStateFormat,
      version: 1,
      data: withUnsafeBytes(of: registers) { Array($0) } + withUnsafeBytes(of: system) { Array($0) }
    )
  }

  /// Takes up the state of a saved vCPU.
  func restore(from states: [DeviceState]) throws {
    let data = try states.data(Self.deviceStateName, format: Self.deviceStateFormat, version: 1)
    let split = MemoryLayout<kvm_regs>.size
    guard data.count == split + MemoryLayout<kvm_sregs>.size else {
      throw KVMError("the vCPU's state has \(data.count) bytes")
    }
    try data.withUnsafeBytes { bytes in
      // System registers first: they decide what the others mean.
      try setSystemRegisters(bytes.loadUnaligned(fromByteOffset: split, as: kvm_sregs.self))
      try setRegisters(bytes.loadUnaligned(as: kvm_regs.self))
    }
  }
}

extension [DeviceState] {
  /// The data of the state with this name, if it is of a format and version that we know.
  func data(_ name: String, format: String, version: UInt32) throws -> [UInt8] {
    guard let state = first(where: { $0.name == name }) else {
      throw KVMError("the snapshot has no device state \(name)")
    }
    guard state.format == format, state.version == version else {
      throw KVMError("device state \(name) is \(state.format) version \(state.version)")
    }
    return state.data
  }
}
