import Testing
import VMCheckpointTestSupport

/// Hyper-V registers in a device state that is damaged or hostile are refused in one line, and leave no store
/// behind. Whoever does not want overlays can save the guest all the same.
@Suite struct QEMUOverlayDamageTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var change: @Sendable (inout QEMUHyperVGuest) -> Void

    init(
      _ name: String,
      _ message: String,
      _ change: @escaping @Sendable (inout QEMUHyperVGuest) -> Void
    ) {
      testDescription = name
      self.message = message
      self.change = change
    }
  }

  private static let unreadable = "has Hyper-V registers that cannot be read: "
  private static let senseless = "has Hyper-V registers that make no sense: "
  private static let elsewhere = unreadable + "CPU 0 is not as the devices' description has it"

  private static let missing = unreadable + "a CPU is not where the devices' description has it"

  /// Other numbers for what is of CPU 0 in both the stream and its description.
  private static func values(
    _ name: String,
    _ message: String,
    _ subsection: String,
    _ fields: [(String, [UInt64])]
  ) -> Case {
    Case(name, message) { guest in
      let index = guest.subsections[0].firstIndex { $0.name == subsection }!
      guest.subsections[0][index] = QEMUSubsection(subsection, fields)
    }
  }

  private static let hypercall = "cpu/msr_hyperv_hypercall"
  private static let synic = "cpu/msr_hyperv_synic"
  private static let time = "cpu/msr_hyperv_time"

  static let cases: [Case] = [
    Case("another version in the stream", elsewhere) { $0.subsections[0][0].version = 2 },
    Case("another version in the description", elsewhere) {
      $0.subsections[0][0].description.replace("\"version\": 1", with: "\"version\": 2")
    },
    Case(
      "another version",
      unreadable + "subsection \"\(time)\" of CPU 0 has version 2, which is unknown"
    ) {
      $0.subsections[0][2].version = 2
      $0.subsections[0][2].description.replace("\"version\": 1", with: "\"version\": 2")
    },
    Case("a negative version", elsewhere) {
      $0.subsections[0][0].description.replace("\"version\": 1", with: "\"version\": -1")
    },
    Case("another name in the stream", elsewhere) {
      $0.subsections[0][0].name = "cpu/msr_hyperv_hypercal1"
    },
    Case("a byte less than described", elsewhere) { $0.subsections[0][0].data.removeLast() },
    Case("a byte more than described", elsewhere) { $0.subsections[0][4].data.append(0) },
    Case("nothing of what is described", missing) { $0.subsections[0][4].data = [] },
    Case(
      "a register of four bytes",
      unreadable + "subsection \"\(time)\" of CPU 0 has no field \"env.msr_hv_tsc\" of 8 bytes"
    ) {
      $0.subsections[0][2].data.removeFirst(4)
      $0.subsections[0][2].description.replace("\"size\": 8", with: "\"size\": 4")
    },
    Case("a size that the stream does not have", elsewhere) {
      $0.subsections[0][2].description.replace("\"size\": 8", with: "\"size\": 4")
    },
    Case("a size near 2^63", elsewhere) {
      $0.subsections[0][2].description.replace("\"size\": 8", with: "\"size\": 9223372036854775807")
    },
    Case("a negative size", elsewhere) {
      $0.subsections[0][2].description.replace("\"size\": 8", with: "\"size\": -8")
    },
    Case("a text for a size", elsewhere) {
      $0.subsections[0][2].description.replace("\"size\": 8", with: "\"size\": \"8\"")
    },
    Case("very many elements", elsewhere) {
      $0.subsections[0][4].description.replace(
        "\"array_len\": 16",
        with: "\"array_len\": 4611686018427387905"
      )
    },
    values(
      "two elements",
      unreadable + "subsection \"\(time)\" of CPU 0 has no field \"env.msr_hv_tsc\" of 8 bytes",
      time,
      [("env.msr_hv_tsc", [1, 2])]
    ),
    values(
      "a register less",
      unreadable
        + "subsection \"\(hypercall)\" of CPU 0 has no field \"env.msr_hv_hypercall\" of 8 bytes",
      hypercall,
      [("env.msr_hv_guest_os_id", [1])]
    ),
    Case("no fields", elsewhere) {
      $0.subsections[0][2].description = #"{"vmsd_name": "\#(time)", "version": 1}"#
    },
    Case(
      "a subsection that comes twice",
      unreadable + "subsection \"\(time)\" of CPU 0 comes twice"
    ) {
      $0.subsections[0].append($0.subsections[0][2])
    },
    Case("a CPU that the stream lacks", missing) {
      $0.change = { devices in
        try devices.replaceInDescription(
          #"{"name": "cpu", "instance_id": 1"#,
          with: #"{"name": "cpu", "instance_id": 7"#
        )
      }
    },
    Case("a section with another footer", elsewhere) {
      $0.change = { devices in
        devices.withSections { sections in
          let end = sections.firstRange(of: [0x7e, 0, 0, 0, 10])!
          sections[end.upperBound - 1] = 11
        }
      }
    },
    Case(
      "a hypercall page of nobody",
      senseless + "the hypercall page is enabled while the guest OS ID is 0"
    ) { guest in
      for cpu in 0..<2 {
        guest.subsections[cpu][0] = QEMUSubsection(
          hypercall,
          [("env.msr_hv_guest_os_id", [0]), ("env.msr_hv_hypercall", [0x10003])]
        )
      }
    },
    values(
      "two hypercall pages",
      senseless + "virtual processors have different values of MSR 0x40000001",
      hypercall,
      [("env.msr_hv_guest_os_id", [HyperVPages.guestOSID]), ("env.msr_hv_hypercall", [0x11003])]
    ),
    values(
      "a message page outside RAM",
      senseless
        + "MSR 0x40000083 places the synic-message page at PFN 0xfffffffffffff, which is outside "
        + "the guest's RAM",
      synic,
      [
        ("env.msr_hv_synic_control", [1]), ("env.msr_hv_synic_evt_page", [0]),
        ("env.msr_hv_synic_msg_page", [.max]),
        ("env.msr_hv_synic_sint", [UInt64](repeating: 0, count: 16)),
      ]
    ),
    Case("a SynIC's page that is not one", "has RAM block \"synic-0-msg-page\" of 8192 bytes") {
      $0.synicPages[0].bytes += $0.synicPages[0].bytes
    },
  ]

  @Test(arguments: cases)
  func itIsRefused(damage: Case) throws {
    var guest = QEMUHyperVGuest.synthetic
    damage.change(&guest)
    let path = try bench.write("stream", guest.stream())
    let outcome = try bench.tool.run("save", path)
    let hint =
      damage.message.hasPrefix("has Hyper-V")
      ? "; --overlays none saves it without looking for overlays" : ""
    expectFailure(outcome, 65, "QEMU stream \"\(path)\" \(damage.message)\(hint)")
    #expect(!exists(bench.storePath))
    expectSuccess(try bench.tool.run("save", path, "--overlays", "none", "--name", "a"))
    let out = bench.directory.file("out")
    expectSuccess(try bench.tool.run("restore", "a", "--format", "qemu-stream", "-o", out))
    let tail = try guest.tail()
    #expect(try readFile(out).suffix(tail.count) == tail[...])
  }

  /// With a table that is wrong in itself, a case would be refused for another reason.
  @Test func theGuestIsRightWithoutDamage() throws {
    let path = try bench.write("stream", QEMUHyperVGuest.synthetic.stream())
    expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    #expect(try bench.tool.json("show", "a")["overlay_count"] as? Int == 7)
  }
}
