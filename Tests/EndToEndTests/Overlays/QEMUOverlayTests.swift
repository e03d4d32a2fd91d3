import Foundation
import Testing
import VMCheckpointTestSupport

/// A guest of QEMU whose overlays are not found, or not right, wakes up with the pages of another host, or without
/// its messages. No guest that uses Hyper-V's interface can run here: what QEMU saves of it is put into the device
/// state of a real stream, whose other bytes stay as they are.
@Suite struct QEMUOverlayTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// With the devices of a real Linux guest.
  static func guest() throws -> QEMUHyperVGuest {
    QEMUHyperVGuest(
      tail: try ELFFixtures.linuxStreamTail(),
      followers: ["cpu/msr_smi_count", "cpu/pkru"]
    )
  }

  /// The records of a snapshot as `show` has them, without pages, and the pages in base64.
  private func records(_ name: String) throws -> (texts: [String], pages: [String: String]) {
    let document = try bench.tool.json("show", name)["overlays"] as? [String: Any] ?? [:]
    var pages: [String: String] = [:]
    let texts = (document["overlays"] as? [[String: Any]] ?? []).map { record in
      let keys = record.keys.filter { $0 != "contents" }.sorted()
      let text = keys.map { "\($0)=\(record[$0]!)" }.joined(separator: " ")
      if let page = record["contents"] as? String { pages[text] = page }
      return text
    }
    return (texts.sorted(), pages)
  }

  /// Expects all that ``QEMUHyperVGuest`` has.
  private func expectOverlays(
    _ name: String,
    _ guest: QEMUHyperVGuest,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    func ram(_ pfn: Int) -> String { OverlayJSON.base64(guest.ram.page(pfn)) }
    let pages = [
      "kind=synic-event pfn=0x28 vp=0": OverlayJSON.base64(QEMUHyperVGuest.eventPage),
      "kind=synic-message msr_bits=0x800 pfn=0x1e vp=0":
        OverlayJSON.base64(QEMUHyperVGuest.messagePage),
      "kind=synic-message msr_bits=0x800 pfn=0x1f vp=1": OverlayJSON.base64(OverlayJSON.page([])),
      "kind=vp-assist pfn=0x14 underlay=unknown vp=0": ram(20),
      "kind=vp-assist pfn=0x15 underlay=unknown vp=1": ram(21),
    ]
    let derived = [
      "kind=hypercall msr_bits=0x2 pfn=0x10 underlay=unknown variant=vmcall",
      "kind=reference-tsc offset=-100 pfn=0x11 scale=0x6666666600000000 sequence=3 underlay=unknown",
    ]
    let found = try records(name)
    #expect(found.texts == (derived + pages.keys).sorted(), sourceLocation: sourceLocation)
    #expect(found.pages == pages, sourceLocation: sourceLocation)
    let shown = try bench.tool.json("show", name)
    #expect(
      shown["overlay_origin"] as? String == "qemu-device-state",
      sourceLocation: sourceLocation
    )
    let document = shown["overlays"] as? [String: Any] ?? [:]
    #expect(document["guest_os_id"] as? String == "0x8100060100000000")
    #expect(try readFile(try bare(name)) == guest.ram, sourceLocation: sourceLocation)
    #expect(try bench.restore(name) == guest.seenRAM, sourceLocation: sourceLocation)
  }

  /// RAM without overlays, in a file.
  private func bare(_ name: String) throws -> String {
    let path = bench.directory.file("\(name).bare")
    try bench.tool.succeed("restore", name, "-o", path, "--overlays", "omit", "--force")
    return path
  }

  // MARK: What is found

  enum Source: String, CaseIterable {
    case file, pipe, mapped, libvirt, live
  }

  @Test(arguments: Source.allCases)
  func everyOverlayIsFound(source: Source) throws {
    let guest = try Self.guest()
    switch source {
    case .file:
      expectSuccess(
        try bench.tool.run("save", bench.write("stream", guest.stream()), "--name", "a")
      )
    case .pipe:
      let path = try bench.write("stream", guest.stream())
      expectSuccess(
        try bench.tool.run("save", "qemu-stream:-", "--name", "a", input: .file(path))
      )
    case .mapped:
      let path = try bench.write("mapped", guest.stream(mappedAt: 0))
      expectSuccess(try bench.tool.run("save", path, "--name", "a"))
    case .libvirt:
      let image = LibvirtImageBuilder().image(stream: try guest.stream())
      expectSuccess(try bench.tool.run("save", bench.write("image", image), "--name", "a"))
    case .live:
      let qemu = try FakeQEMU(in: bench.directory, stream: guest.stream())
      let outcome = try bench.tool.run("save", "qemu:\(qemu.path)", "--name", "a")
      #expect(outcome.succeeded, "\(outcome)")
    }
    try expectOverlays("a", guest)
    #expect(try bench.tool.verify().succeeded)
  }

  @Test func whatSQLSeesIsWhatShowSees() throws {
    try bench.tool.succeed(
      "save",
      bench.write("stream", Self.guest().stream()),
      "--name",
      "a"
    )
    let rows = try bench.sql.run(
      "SELECT kind, pfn, vp, baked, depth FROM overlay_stack ORDER BY pfn"
    )
    #expect(
      rows.split(separator: "\n") == [
        "hypercall|16||1|0", "reference-tsc|17||1|0", "vp-assist|20|0|1|0", "vp-assist|21|1|1|0",
        "synic-message|30|0|0|0", "synic-message|31|1|0|0", "synic-event|40|0|0|0",
      ]
    )
    #expect(try bench.sql.run("SELECT origin FROM overlay_origin") == "qemu-device-state")
    let query = try bench.tool.json("query", "overlays", "a")
    #expect((query["rows"] as? [Any])?.count == 7, "\(query)")
  }

  /// QEMU's pages for SynICs have plain names, as RAM does that is not called pc.ram.
  @Test func theirBlocksAreNotTakenForRAM() throws {
    var guest = try Self.guest()
    guest.ramName = "mem0"
    expectSuccess(
      try bench.tool.run("save", bench.write("stream", guest.stream()), "--name", "a")
    )
    try expectOverlays("a", guest)
  }

  /// A machine type up to 3.0 has no pages of its own: KVM writes messages into RAM. So it does at address 0, where
  /// QEMU lays no page.
  @Test func withoutPagesOfQEMUsTheyAreBaked() throws {
    var guest = try Self.guest()
    guest.synicPages = []
    guest.machine = "pc-q35-3.0"
    try bench.tool.succeed("save", bench.write("old", guest.stream()), "--name", "old")
    let texts = try records("old").texts
    #expect(texts.contains("kind=synic-event pfn=0x28 underlay=unknown vp=0"), "\(texts)")
    #expect(texts.filter { $0.contains("underlay=unknown") }.count == 7, "\(texts)")
    #expect(try bench.restore("old") == guest.ram)

    guest = try Self.guest()
    guest.subsections[0][4].data.replaceSubrange(16..<24, with: [0, 0, 0, 0, 0, 0, 0, 1])
    try bench.tool.succeed("save", bench.write("zero", guest.stream()), "--name", "zero")
    let zero = try records("zero")
    let text = "kind=synic-message pfn=0x0 underlay=unknown vp=0"
    #expect(zero.pages[text] == OverlayJSON.base64(guest.ram.page(0)), "\(zero.texts)")
  }

  /// A guest that knows nothing of Hyper-V is saved as before, and its store needs no feature.
  @Test func aGuestWithoutThemHasNone() throws {
    var guest = try Self.guest()
    guest.subsections = []
    guest.synicPages = []
    expectSuccess(
      try bench.tool.run("save", bench.write("stream", guest.stream()), "--name", "a")
    )
    let shown = try bench.tool.json("show", "a")
    #expect(shown["overlay_count"] as? Int == 0)
    #expect(shown["overlay_origin"] is NSNull)
    #expect(try bench.sql.integer("SELECT count(*) FROM feature") == 0)
    #expect(try bench.restore("a") == guest.ram)
  }

  /// What vmckpt does not know beside these registers does no harm.
  @Test func otherSubsectionsAreLeftAlone() throws {
    var guest = try Self.guest()
    var other = QEMUSubsection("cpu/msr_hyperv_future", [("env.x", [1, 2])])
    other.version = 9
    other.description = other.description.replacing("\"version\": 1", with: "\"version\": 9")
    guest.subsections[0].insert(other, at: 1)
    expectSuccess(
      try bench.tool.run("save", bench.write("stream", guest.stream()), "--name", "a")
    )
    try expectOverlays("a", guest)
  }

  @Test func aPageWithOtherBytesIsNamed() throws {
    var guest = try Self.guest()
    guest.ram.replaceSubrange((0x10 << 12)..<(0x10 << 12 + 4), with: [1, 2, 3, 4])
    let outcome = try bench.tool.run("save", bench.write("stream", guest.stream()), "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: RAM at PFN 0x10 does not show the bytes of its hypercall overlay; the bytes in "
        + "RAM are kept, as its underlay is unknown\n"
    )
    #expect(try bench.restore("a") == guest.seenRAM)
  }

  // MARK: What the user says

  @Test func overlaysCanBeLeftAlone() throws {
    let guest = try Self.guest()
    let path = try bench.write("stream", guest.stream())
    expectSuccess(try bench.tool.run("save", path, "--name", "a", "--overlays", "none"))
    #expect(try records("a").texts.isEmpty)
    #expect(try bench.restore("a") == guest.ram)
  }

  @Test func aDocumentTakesTheirPlace() throws {
    let guest = try Self.guest()
    let path = try bench.write("stream", guest.stream())
    let document = try bench.write(
      "overlays.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":16,"variant":"vmcall","underlay":"unknown"}"#
      )
    )
    expectSuccess(try bench.tool.run("save", path, "--name", "a", "--overlays", document))
    #expect(try records("a").texts == ["kind=hypercall pfn=0x10 underlay=unknown variant=vmcall"])
    let shown = try bench.tool.json("show", "a")
    #expect(shown["overlay_origin"] as? String == "overlays-json")
    #expect(try bench.tool.run("show", "a").text.contains("\nOverlays, from overlays-json\n"))
    try bench.tool.succeed("save", path, "--name", "b")
    #expect(try bench.tool.run("show", "b").text.contains("\nOverlays, from qemu-device-state\n"))
    #expect(try bench.tool.json("show", "a")["overlay_origin"] as? String == "overlays-json")
  }

  // MARK: What comes back

  /// QEMU lays SynIC's pages over RAM itself: in RAM they would take the place of what lies beneath.
  @Test(arguments: ["qemu-stream", "libvirt-save", "qemu"])
  func theSameGuestComesBack(format: String) throws {
    let guest = try Self.guest()
    let image = LibvirtImageBuilder().image(stream: try guest.stream())
    try bench.tool.succeed("save", bench.write("image", image), "--name", "a")
    let out = bench.directory.file("out")
    let json = bench.directory.file("out.json")
    expectSuccess(
      try bench.tool.run("restore", "a", "--format", format, "-o", out, "--overlays-out", json)
    )
    let tail = try guest.tail()
    if format == "qemu" {
      #expect(try readFile("\(out)/ram") == guest.ram)
      let state = try readFile("\(out)/device.state")
      #expect(state.suffix(tail.count) == tail[...])
    } else {
      #expect(try readFile(out).suffix(tail.count) == tail[...])
      // What comes back is saved as the same.
      try bench.tool.succeed("save", out, "--name", "b")
      try expectOverlays("b", guest)
      #expect(
        try bench.sql.integer(
          "SELECT count(DISTINCT sha256) FROM device_state WHERE name = 'qemu-stream'"
        ) == 1
      )
    }
    // RAM is bare where QEMU's pages are.
    let document = try String(contentsOfFile: json, encoding: .utf8)
    #expect(document.components(separatedBy: #""underlay": "unknown""#).count == 5, "\(document)")
    #expect(document.components(separatedBy: #""underlay""#).count == 5, "\(document)")
  }

  /// KVM makes the pages of the registers anew on the host where the guest goes on. What was asked for is done.
  @Test func aPageForAnotherHostGoesWithItsRegister() throws {
    let guest = try Self.guest()
    try bench.tool.succeed("save", bench.write("stream", guest.stream()), "--name", "a")
    let out = bench.directory.file("out")
    expectSuccess(
      try bench.tool.run(
        "restore",
        "a",
        "--format",
        "qemu",
        "-o",
        out,
        "--cpu-vendor",
        "amd",
        "--tsc-frequency",
        "1G"
      )
    )
    var expected = guest.ram
    expected.replaceSubrange((0x10 << 12)..<(0x10 << 12 + 4), with: [0x0f, 0x01, 0xd9, 0xc3])
    let clock = OverlayJSON.tscPage(
      sequence: 4,
      scale: OverlayJSON.scale(hz: 1_000_000_000),
      offset: -100
    )
    expected.replaceSubrange((0x11 << 12)..<(0x11 << 12 + 24), with: clock[..<24])
    #expect(try readFile("\(out)/ram") == expected)
  }

  /// A guest would find a page where it has placed none, or none where it has placed one.
  @Test func aPageThatItsRegisterDoesNotPlaceIsNamed() throws {
    let guest = try Self.guest()
    let path = try bench.write("stream", guest.stream())
    let page = OverlayJSON.base64(guest.ram.page(20))
    let document = try bench.write(
      "overlays.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":64,"variant":"vmcall"}"#,
        #"{"kind":"vp-assist","vp":0,"pfn":20,"contents":"\#(page)"}"#
      )
    )
    try bench.tool.succeed("save", path, "--name", "a", "--overlays", document)
    for format in ["qemu-stream", "qemu"] {
      let outcome = try bench.tool.run(
        "restore",
        "a",
        "--format",
        format,
        "-o",
        bench.directory.file(format)
      )
      #expect(outcome.succeeded, "\(outcome)")
      #expect(
        outcome.standardError
          == "vmckpt: warning: RAM at PFN 0x40 gets a hypercall page that no register of the saved device "
          + "state places there\n"
      )
    }
    let outcome = try bench.tool.run(
      "restore",
      "a",
      "--format",
      "qemu-stream",
      "-o",
      bench.directory.file("bare"),
      "--overlays",
      "omit"
    )
    #expect(
      outcome.standardError
        == "vmckpt: warning: RAM at PFN 0x14 is bare, where a register of the saved device state places a "
        + "vp-assist page\n"
    )
    // A raw file has no registers.
    expectSuccess(
      try bench.tool.run("restore", "a", "-o", bench.directory.file("raw"))
    )
  }
}
