import VMCheckpoint

/// The MSRs in a vmstate that bincode encodes.
///
/// Each vCPU has a list of tables, which KVM fills with up to 256 registers each:
///
///     count u64                  of the tables
///     8 u64, n u32, 0 u32        struct kvm_msrs, a byte array of 8
///     n u64
///     n times: 16 u64, index u32, 0 u32, value u64
///                                struct kvm_msr_entry, a byte array of 16
///
/// What is before it differs from version to version, and so the lists are found by their form: no other part of
/// a vmstate has a chain of lengths and zeros that fits so.
///
/// Sources: firecracker `src/vmm/src/arch/x86_64/vcpu.rs`; kvm-bindings `src/serialize.rs`; vmm-sys-util `src/fam.rs`.
enum FirecrackerMSRs {
  private static let maximumTableCount: UInt64 = 64
  /// KVM_MAX_MSR_ENTRIES of kvm-bindings.
  private static let maximumRegisterCount: UInt64 = 256
  private static let headerByteCount = 24
  private static let entryByteCount = 24

  /// The registers of each vCPU, in the order of the file.
  ///
  /// - Complexity: O(*n*) in the file's size.
  static func all(in bytes: [UInt8]) -> [HyperVMSRs.Registers] {
    var processors: [HyperVMSRs.Registers] = []
    bytes.withUnsafeBytes { bytes in
      var offset = 0
      while offset + 8 + headerByteCount <= bytes.count {
        if let list = list(bytes, at: offset) {
          processors.append(list.registers)
          offset = list.end
        } else {
          offset += 1
        }
      }
    }
    return processors
  }

  private static func number<Value: FixedWidthInteger>(
    _ bytes: UnsafeRawBufferPointer,
    _ offset: Int,
    _: Value.Type = Value.self
  ) -> Value {
    Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }

  private static func list(
    _ bytes: UnsafeRawBufferPointer,
    at start: Int
  ) -> (registers: HyperVMSRs.Registers, end: Int)? {
    let tableCount = number(bytes, start, UInt64.self)
    guard (1...maximumTableCount).contains(tableCount) else { return nil }
    var registers: HyperVMSRs.Registers = [:]
    var offset = start + 8
    for _ in 0..<tableCount {
      guard offset + headerByteCount <= bytes.count, number(bytes, offset, UInt64.self) == 8
      else { return nil }
      let count = UInt64(number(bytes, offset + 8, UInt32.self))
      guard (1...maximumRegisterCount).contains(count),
        number(bytes, offset + 12, UInt32.self) == 0,
        number(bytes, offset + 16, UInt64.self) == count
      else { return nil }
      offset += headerByteCount
      guard offset + Int(count) * entryByteCount <= bytes.count else { return nil }
      for _ in 0..<count {
        guard number(bytes, offset, UInt64.self) == 16,
          number(bytes, offset + 12, UInt32.self) == 0
        else { return nil }
        registers[number(bytes, offset + 8)] = number(bytes, offset + 16)
        offset += entryByteCount
      }
    }
    return (registers, offset)
  }
}
