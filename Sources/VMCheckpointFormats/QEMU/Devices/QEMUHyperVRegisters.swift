import VMCheckpoint

/// The Hyper-V registers of a guest's virtual CPUs that place overlays, out of a migration stream.
///
/// Each is in a subsection of its CPU's section that is there unless all its registers are 0. A CPU's section has
/// the CPU's index for its instance, which is the VP index as well.
///
/// Sources: QEMU `target/i386/machine.c`, `vmstate_msr_hyperv_…`; `include/hw/hyperv/hyperv.h`, `hyperv_vp_index`.
enum QEMUHyperVRegisters {
  private static let cpu = "cpu"
  private static let namePrefix = Array("cpu/msr_hyperv_".utf8)

  /// By subsection: its fields, each with the number of its register.
  private static let fields: [String: [(name: String, index: UInt32)]] = [
    "cpu/msr_hyperv_hypercall": [
      ("env.msr_hv_guest_os_id", GuestOSID.msrIndex),
      ("env.msr_hv_hypercall", OverlayKind.hypercall.msrIndex),
    ],
    "cpu/msr_hyperv_vapic": [("env.msr_hv_vapic", OverlayKind.vpAssist.msrIndex)],
    "cpu/msr_hyperv_time": [("env.msr_hv_tsc", OverlayKind.referenceTSC.msrIndex)],
    "cpu/msr_hyperv_synic": [
      ("env.msr_hv_synic_evt_page", OverlayKind.synicEvent.msrIndex),
      ("env.msr_hv_synic_msg_page", OverlayKind.synicMessage.msrIndex),
    ],
  ]

  /// The version of all of them, in every QEMU.
  private static let version: UInt32 = 1

  /// The registers of each CPU, in the stream's order; none when no CPU has a register that is not 0.
  ///
  /// - Parameters:
  ///   - stream: A stream without the guest's RAM.
  ///   - ramOffset: Where in it RAM belongs.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when the stream does not have a register where its
  ///   description does. The message goes on with the stream's name.
  static func all(
    in stream: [UInt8],
    ramOffset: Int
  ) throws(VMCheckpointError) -> [HyperVMSRs.Registers] {
    // What has no such registers is not taken apart: it need not be understood, and a guest may be waiting.
    guard let start = QEMUDeviceDescription.start(in: stream),
      stream.firstIndex(of: namePrefix, from: start) != nil
    else { return [] }
    let described = (QEMUDeviceDescription.devices(in: stream) ?? []).filter {
      $0["name"] as? String == cpu
    }
    let names = described.flatMap(QEMUDeviceSections.subsections).map { $0["vmsd_name"] as? String }
    guard names.contains(where: { $0.map { fields[$0] != nil } ?? false }) else { return [] }
    guard let sections = QEMUDeviceSections(stream, ramOffset: ramOffset) else {
      throw unreadable("its devices are not where their description has them")
    }
    let devices = sections.devices(named: cpu)
    guard devices.count == described.count else {
      throw unreadable("a CPU is not where the devices' description has it")
    }
    var processors: [HyperVMSRs.Registers] = []
    for device in devices {
      guard let subsections = sections.subsections(of: device) else {
        throw unreadable("CPU \(device.instanceID) is not as the devices' description has it")
      }
      processors.append(try registers(device.instanceID, subsections))
    }
    return processors
  }

  private static func registers(
    _ vp: UInt32,
    _ subsections: [QEMUDeviceSections.Subsection]
  ) throws(VMCheckpointError) -> HyperVMSRs.Registers {
    var registers: HyperVMSRs.Registers = [HyperVMSRs.processorIndex: UInt64(vp)]
    for subsection in subsections {
      guard let fields = fields[subsection.name] else { continue }
      let title = "subsection \(quotedName(subsection.name)) of CPU \(vp)"
      guard subsection.version == version else {
        throw unreadable("\(title) has version \(subsection.version), which is unknown")
      }
      for (name, index) in fields {
        guard let value = subsection.fields.uint64(name) else {
          throw unreadable("\(title) has no field \(quotedName(name)) of 8 bytes")
        }
        guard registers.updateValue(value, forKey: index) == nil else {
          throw unreadable("\(title) comes twice")
        }
      }
    }
    return registers
  }

  private static func unreadable(_ reason: String) -> VMCheckpointError {
    .invalidData(
      "has Hyper-V registers that cannot be read: \(reason)",
      hint: "--overlays none saves it without looking for overlays"
    )
  }
}
