import CKVM
import Glibc

/// What KVM or the operating system refused, or what the guest did that ends it.
struct KVMError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }

  init(_ attempt: String, _ errorNumber: Int32) {
    description = "cannot \(attempt): \(String(cString: strerror(errorNumber)))"
  }
}

/// One of KVM's file descriptors: the device, a VM or a vCPU.
final class KVMDescriptor: Sendable {
  let rawValue: Int32

  init(_ rawValue: Int32) {
    self.rawValue = rawValue
  }

  deinit { close(rawValue) }

  /// An ioctl with a number.
  @discardableResult
  func call(_ name: String, _ request: UInt, _ argument: UInt = 0) throws -> Int32 {
    let result = ckvm_ioctl(rawValue, request, argument)
    guard result >= 0 else { throw KVMError(name, -result) }
    return result
  }

  /// An ioctl that fills a structure.
  func get<Structure>(
    _ name: String,
    _ request: UInt,
    _ initial: Structure
  ) throws -> Structure {
    var structure = initial
    try withUnsafeMutablePointer(to: &structure) { pointer in
      _ = try call(name, request, UInt(bitPattern: pointer))
    }
    return structure
  }

  /// An ioctl that reads a structure.
  func set<Structure>(_ name: String, _ request: UInt, _ structure: Structure) throws {
    _ = try withUnsafePointer(to: structure) { pointer in
      try call(name, request, UInt(bitPattern: pointer))
    }
  }
}

/// A VM with its RAM at GPA 0 and one vCPU, whose Hyper-V MSRs are this program's business.
struct KVMMachine {
  let vcpu: VCPU

  private let vm: KVMDescriptor

  /// Where Intel's KVM keeps a task state segment in guest-physical memory: three pages below 4 GiB
  /// that no firmware or RAM takes here.
  private static let taskStateSegment: UInt = 0xfffb_d000

  init(ram: MappedRAM) throws {
    let device = open("/dev/kvm", O_RDWR | O_CLOEXEC)
    guard device >= 0 else { throw KVMError("open /dev/kvm", errno) }
    let kvm = KVMDescriptor(device)
    guard try kvm.call("ask for KVM's version", ckvm_get_api_version) == KVM_API_VERSION else {
      throw KVMError("this is not the KVM interface of version \(KVM_API_VERSION)")
    }
    for capability in [KVM_CAP_X86_USER_SPACE_MSR, KVM_CAP_X86_MSR_FILTER, KVM_CAP_IMMEDIATE_EXIT] {
      guard try kvm.call("ask KVM", ckvm_check_extension, UInt(capability)) > 0 else {
        throw KVMError("this KVM lacks capability \(capability); Linux 5.10 has it")
      }
    }
    vm = KVMDescriptor(try kvm.call("make a VM", ckvm_create_vm))
    try vm.call("place the task state segment", ckvm_set_tss_addr, Self.taskStateSegment)
    try vm.set(
      "give the VM its RAM",
      ckvm_set_user_memory_region,
      kvm_userspace_memory_region(
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: UInt64(ram.bytes.count),
        userspace_addr: UInt64(UInt(bitPattern: ram.bytes.baseAddress!))
      )
    )
    let result = ckvm_exit_on_hyperv_msrs(vm.rawValue)
    guard result >= 0 else { throw KVMError("have Hyper-V's MSRs handed over", -result) }
    vcpu = try VCPU(kvm: kvm, vm: vm)
  }
}
