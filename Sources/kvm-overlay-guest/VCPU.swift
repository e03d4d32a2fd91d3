import CKVM
import Glibc
import VMCheckpoint

/// A virtual processor.
final class VCPU {
  /// Why a vCPU stopped.
  enum Exit {
    /// It wants a byte from `port`: ``VCPU/answer(_:)``.
    case input(port: UInt16)
    /// It wrote to `port`.
    case output(port: UInt16, bytes: [UInt8])
    /// It reads an MSR: ``VCPU/answerMSR(_:)``.
    case readMSR(index: UInt32)
    /// It writes an MSR: ``VCPU/answerMSR(_:)`` says whether it may.
    case writeMSR(index: UInt32, value: UInt64)
    /// It cannot go on.
    case other(reason: UInt32)
  }

  private let descriptor: KVMDescriptor
  private let run: UnsafeMutablePointer<kvm_run>
  private let runByteCount: Int

  init(kvm: KVMDescriptor, vm: KVMDescriptor) throws {
    descriptor = KVMDescriptor(try vm.call("make a vCPU", ckvm_create_vcpu, 0))
    runByteCount = Int(try kvm.call("ask KVM", ckvm_get_vcpu_mmap_size))
    guard
      let address = mmap(
        nil,
        runByteCount,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        descriptor.rawValue,
        0
      ),
      address != MAP_FAILED
    else { throw KVMError("map the vCPU's run area", errno) }
    run = address.bindMemory(to: kvm_run.self, capacity: 1)
  }

  deinit { munmap(run, runByteCount) }

  // MARK: Running

  /// Runs until the guest needs something.
  func runToExit() throws -> Exit {
    while true {
      let result = ckvm_ioctl(descriptor.rawValue, ckvm_run_vcpu, 0)
      guard result == -EINTR else {
        guard result >= 0 else { throw KVMError("run the vCPU", -result) }
        return exit
      }
    }
  }

  private var exit: Exit {
    switch Int32(bitPattern: run.pointee.exit_reason) {
    case KVM_EXIT_IO where run.pointee.io.direction == UInt8(KVM_EXIT_IO_IN):
      .input(port: run.pointee.io.port)
    case KVM_EXIT_IO:
      .output(port: run.pointee.io.port, bytes: Array(ioData))
    case KVM_EXIT_X86_RDMSR:
      .readMSR(index: run.pointee.msr.index)
    case KVM_EXIT_X86_WRMSR:
      .writeMSR(index: run.pointee.msr.index, value: run.pointee.msr.data)
    default:
      .other(reason: run.pointee.exit_reason)
    }
  }

  /// The bytes of a port access, which KVM puts behind `kvm_run`.
  private var ioData: UnsafeMutableRawBufferPointer {
    let io = run.pointee.io
    return UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(run) + Int(io.data_offset),
      count: Int(io.size) * Int(io.count)
    )
  }

  /// What the guest reads from the port.
  func answer(_ byte: UInt8) {
    ioData.initializeMemory(as: UInt8.self, repeating: 0)
    ioData[0] = byte
  }

  /// What the guest reads from the MSR; `nil`: it gets #GP, for reads as for writes.
  func answerMSR(_ value: UInt64?) {
    run.pointee.msr.error = value == nil ? 1 : 0
    if let value { run.pointee.msr.data = value }
  }

  /// Completes the instruction that caused the latest exit, and nothing after it.
  ///
  /// Only then do the registers say where the guest is: KVM keeps the second half of a port or MSR
  /// access to itself until it runs again (api.rst, the notes on KVM_RUN).
  func completeExit() throws {
    run.pointee.immediate_exit = 1
    defer { run.pointee.immediate_exit = 0 }
    let result = ckvm_ioctl(descriptor.rawValue, ckvm_run_vcpu, 0)
    guard result == -EINTR else {
      throw KVMError("stop the vCPU between two instructions: it gave \(result)")
    }
  }

  // MARK: State

  var registers: kvm_regs {
    get throws { try descriptor.get("read registers", ckvm_get_regs, kvm_regs()) }
  }

  var systemRegisters: kvm_sregs {
    get throws { try descriptor.get("read system registers", ckvm_get_sregs, kvm_sregs()) }
  }

  func setRegisters(_ registers: kvm_regs) throws {
    try descriptor.set("set registers", ckvm_set_regs, registers)
  }

  func setSystemRegisters(_ registers: kvm_sregs) throws {
    try descriptor.set("set system registers", ckvm_set_sregs, registers)
  }

  /// How fast the guest's TSC ticks on this host.
  var tscFrequencyHz: UInt64 {
    get throws {
      UInt64(try descriptor.call("ask for the TSC's frequency", ckvm_get_tsc_khz)) * 1000
    }
  }

  /// What the guest's TSC reads now.
  var tsc: UInt64 {
    get throws {
      var value: UInt64 = 0
      let result = ckvm_get_msr(descriptor.rawValue, Self.tscMSR, &value)
      guard result >= 0 else { throw KVMError("read the TSC", -result) }
      return value
    }
  }

  private static let tscMSR: UInt32 = 0x10  // IA32_TIME_STAMP_COUNTER

  /// Makes the guest's TSC read `value` and tick on from there.
  ///
  /// - Returns: Whether it does. Not every host can: Linux before 5.16 has no such call, and where the
  ///   guest reads the host's TSC without help of the hardware, KVM takes the offset and nothing
  ///   happens.
  func setTSC(_ value: UInt64) throws -> Bool {
    var offset: UInt64 = 0
    var result = ckvm_get_tsc_offset(descriptor.rawValue, &offset)
    guard result >= 0 else { return false }
    result = ckvm_set_tsc_offset(descriptor.rawValue, offset &+ value &- (try tsc))
    guard result >= 0 else { return false }
    let (now, second) = (try tsc, try tscFrequencyHz)
    return now >= value && now - value < second
  }
}
