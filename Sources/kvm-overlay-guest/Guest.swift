import VMCheckpoint

/// A VM with its guest, and what the VMM knows of both.
final class Guest {
  let ram: MappedRAM
  let machine: KVMMachine
  private(set) var hyperV: HyperVRegisters

  /// How fast the guest believes its TSC to tick.
  let tscFrequencyHz: UInt64

  /// What a reference TSC page holds that the guest enables.
  let clock: ReferenceClock

  init(
    ram: MappedRAM,
    machine: KVMMachine,
    hyperV: HyperVRegisters,
    clock: ReferenceClock,
    tscFrequencyHz: UInt64
  ) {
    self.ram = ram
    self.machine = machine
    self.hyperV = hyperV
    self.clock = clock
    self.tscFrequencyHz = tscFrequencyHz
  }

  /// A new guest before its first instruction.
  ///
  /// - Parameters:
  ///   - ramPath: Where its RAM is to be: a file that does not exist.
  ///   - isStacked: Whether it shall enable both overlays at one page.
  ///   - tscFrequencyHz: The TSC frequency that the guest learns; `nil`: what KVM says.
  static func boot(
    ramPath: String,
    isStacked: Bool,
    clock: ReferenceClock,
    tscFrequencyHz: UInt64?
  ) throws -> Guest {
    let ram = try MappedRAM(creating: ramPath, byteCount: GuestMemoryMap.byteCount)
    GuestMemoryMap.load(into: ram)
    let machine = try KVMMachine(ram: ram)
    let hypercallPFN = GuestMemoryMap.hypercallPFN
    try machine.vcpu.setBootState(
      hypercallPFN: hypercallPFN,
      referenceTSCPFN: isStacked ? hypercallPFN : GuestMemoryMap.referenceTSCPFN
    )
    return Guest(
      ram: ram,
      machine: machine,
      hyperV: HyperVRegisters(overlays: OverlayManager(memory: ram)),
      clock: clock,
      tscFrequencyHz: try tscFrequencyHz ?? machine.vcpu.tscFrequencyHz
    )
  }

  /// Lets the guest do `command` when it next asks what to do, and runs it until it has reported.
  func perform(_ command: GuestProgram.Command) throws -> GuestReport {
    var bytes: [UInt8] = []
    while bytes.count < GuestReport.byteCount {
      switch try machine.vcpu.runToExit() {
      case .input(GuestProgram.commandPort):
        machine.vcpu.answer(command.rawValue)
      case .output(GuestProgram.reportPort, let part):
        bytes += part
      case .readMSR(let index):
        machine.vcpu.answerMSR(hyperV.read(index))
      case .writeMSR(let index, let value):
        let isAllowed = try hyperV.write(index, value) {
          try clock.page(frequencyHz: tscFrequencyHz, tsc: machine.vcpu.tsc)
        }
        machine.vcpu.answerMSR(isAllowed ? value : nil)
      case .input(let port), .output(let port, _):
        throw KVMError("the guest uses port \(port)")
      case .other(let reason):
        throw KVMError("the guest died: KVM exit reason \(reason)")
      }
    }
    return try GuestReport(bytes)
  }
}
