/// A guest of QEMU and KVM that uses Hyper-V's interface, with two CPUs: its RAM, and its state in a migration
/// stream. The devices are of a real stream or made up; what is Hyper-V's is added.
package struct QEMUHyperVGuest: Sendable {
  package var machine = "pc-q35-7.2"
  package var ramName = "pc.ram"
  /// From GPA 0.
  package var ram: [UInt8]
  /// The pages that QEMU lays over RAM, in the order of the stream's blocks.
  package var synicPages: [(name: String, bytes: [UInt8])]
  /// By CPU.
  package var subsections: [[QEMUSubsection]]
  /// The subsection of each CPU that comes behind these.
  package var followers: [String]
  /// What is done to the devices at last.
  package var change: @Sendable (inout QEMUDevices) throws -> Void = { _ in }
  private let plainTail: [UInt8]

  /// SynIC's pages of CPU 0, as they are in the stream.
  package static let messagePage = page(0xc0)
  package static let eventPage = page(0xd0)

  /// - Parameters:
  ///   - tail: The devices of a guest with two CPUs.
  ///   - followers: A subsection of each CPU.
  package init(tail: [UInt8], followers: [String]) {
    plainTail = tail
    self.followers = followers
    ram = sampleRAM(256)
    HyperVPages.put(into: &ram)
    // KVM on Intel, which writes four bytes of the page.
    ram.replaceSubrange(
      (0x10 << 12)..<(0x11 << 12),
      with: [0x0f, 0x01, 0xc1, 0xc3] + Self.page(7)[4...]
    )
    synicPages = [
      ("synic-0-msg-page", Self.messagePage), ("synic-0-event-page", Self.eventPage),
      ("synic-1-msg-page", [UInt8](repeating: 0, count: 4096)),
      ("synic-1-event-page", Self.page(0xe0)),
    ]
    subsections = [Self.subsections(vp: 0), Self.subsections(vp: 1)]
  }

  /// A guest whose devices are these two CPUs.
  package static var synthetic: QEMUHyperVGuest {
    QEMUHyperVGuest(tail: madeUpTail, followers: ["cpu/pkru", "cpu/pkru"])
  }

  /// 4096 bytes that differ.
  private static func page(_ seed: UInt8) -> [UInt8] {
    (0..<4096).map { seed &+ UInt8(truncatingIfNeeded: $0 &* 7) }
  }

  /// What QEMU saves of one CPU for Hyper-V, in its order: VP assist at PFN 20, SynIC's messages at 30 and its
  /// events at 40, and the CPU's number; the hypercall page at 16, locked, and the reference TSC page at 17.
  package static func subsections(vp: UInt64) -> [QEMUSubsection] {
    [
      QEMUSubsection(
        "cpu/msr_hyperv_hypercall",
        [
          ("env.msr_hv_guest_os_id", [HyperVPages.guestOSID]),
          ("env.msr_hv_hypercall", [0x10 << 12 | 3]),
        ]
      ),
      QEMUSubsection("cpu/msr_hyperv_vapic", [("env.msr_hv_vapic", [(20 + vp) << 12 | 1])]),
      QEMUSubsection("cpu/msr_hyperv_time", [("env.msr_hv_tsc", [0x11 << 12 | 1])]),
      QEMUSubsection("cpu/msr_hyperv_crash", [("env.msr_hv_crash_params", [1, 2, 3, 4, 5])]),
      QEMUSubsection(
        "cpu/msr_hyperv_synic",
        [
          ("env.msr_hv_synic_control", [1]),
          // Of CPU 1 it is off.
          ("env.msr_hv_synic_evt_page", [(40 + vp) << 12 | (vp == 0 ? 1 : 0)]),
          ("env.msr_hv_synic_msg_page", [(30 + vp) << 12 | 0x801]),
          ("env.msr_hv_synic_sint", (0..<16).map { $0 + 0x10000 }),
        ]
      ),
      QEMUSubsection(
        "cpu/msr_hyperv_stimer",
        [("env.msr_hv_stimer_config", [1, 2, 3, 4]), ("env.msr_hv_stimer_count", [5, 6, 7, 8])]
      ),
    ]
  }

  /// RAM as the guest sees it.
  package var seenRAM: [UInt8] {
    var seen = ram
    for (pfn, name) in [
      (30, "synic-0-msg-page"), (31, "synic-1-msg-page"), (40, "synic-0-event-page"),
    ] {
      guard let page = synicPages.first(where: { $0.name == name })?.bytes else { continue }
      seen.replaceSubrange((pfn << 12)..<((pfn + 1) << 12), with: page)
    }
    return seen
  }

  /// The stream from the first device on.
  package func tail() throws -> [UInt8] {
    var devices = try QEMUDevices(plainTail)
    for (cpu, list) in subsections.enumerated() {
      for subsection in list { try devices.insert(subsection, cpu: cpu, before: followers[cpu]) }
    }
    try change(&devices)
    return devices.bytes
  }

  /// The whole stream.
  ///
  /// - Parameter fileOffset: Where it begins in its file, with `mapped-ram`; `nil`: without that.
  package func stream(mappedAt fileOffset: Int? = nil) throws -> [UInt8] {
    func page(_ index: Int) -> [UInt8] { Array(ram[(index << 12)..<((index + 1) << 12)]) }
    let pageCount = ram.count >> 12
    var stream = QEMUStreamBuilder()
    stream.header(machine: machine, capabilities: fileOffset == nil ? [] : ["mapped-ram"])
    if let fileOffset {
      let pages = (0..<pageCount).map { ($0, page($0)) }.filter { $0.1.contains { $0 != 0 } }
      var blocks = [
        (name: ramName, pageCount: pageCount, pages: Dictionary(uniqueKeysWithValues: pages))
      ]
      for block in synicPages {
        blocks.append((block.name, block.bytes.count >> 12, [0: Array(block.bytes.prefix(4096))]))
      }
      stream.mappedRAM(blocks, fileOffset: fileOffset)
      stream.ramPart(3)
    } else {
      var blocks = [(name: ramName, pageCount: pageCount)]
      for block in synicPages { blocks.append((block.name, block.bytes.count >> 12)) }
      stream.ramStart(blocks)
      stream.ramPart(2)
      for index in 0..<pageCount { stream.page(ramName, index, page(index)) }
      stream.ramEnd()
      stream.ramPart(3)
      for block in synicPages {
        for index in 0..<(block.bytes.count >> 12) {
          stream.page(block.name, index, Array(block.bytes[(index << 12)...].prefix(4096)))
        }
      }
    }
    stream.ramEnd()
    stream.raw(try tail())
    return stream.bytes
  }

  /// Two CPUs with a field and a subsection each.
  private static var madeUpTail: [UInt8] {
    var stream = QEMUStreamBuilder()
    var list: [String] = []
    let pkru = QEMUSubsection("cpu/pkru", [("env.pkru", [1])])
    for cpu in UInt32(0)..<2 {
      stream.raw([4])
      stream.number(10 + cpu)
      stream.string("cpu")
      stream.number(cpu)
      stream.number(UInt32(12))
      stream.raw([1, 2, 3, 4, 5, 6, 7, 8] + pkru.bytes + [0x7e])
      stream.number(10 + cpu)
      list.append(
        #"{"name": "cpu", "instance_id": \#(cpu), "vmsd_name": "cpu", "version": 12, "fields": "#
          + #"[{"name": "env.regs", "type": "uint64", "size": 8}], "subsections": [\#(pkru.description)]}"#
      )
    }
    stream.raw([0, 6])
    let description = #"{"page_size": 4096, "devices": [\#(list.joined(separator: ", "))]}"#
    stream.number(UInt32(description.utf8.count))
    stream.raw(Array(description.utf8))
    return stream.bytes
  }
}
