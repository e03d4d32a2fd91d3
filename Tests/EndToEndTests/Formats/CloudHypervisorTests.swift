import Glibc
import Testing
import VMCheckpointTestSupport

/// A snapshot of Cloud Hypervisor that comes back with a byte or a file changed does not start again. No binary of
/// it is at hand: a writer of the tests' own makes the snapshots, from the documented layout.
@Suite struct CloudHypervisorTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Ranges in no order, and two that touch.
  private static var sample: CloudHypervisorBuilder {
    var ram = sampleRAM(256)
    HyperVPages.put(into: &ram)
    var sample = CloudHypervisorBuilder([
      .init(4 << 30, sampleRAM(64, seed: 3)), .init(0x100000, sampleRAM(128, seed: 2)),
      .init(0, Array(ram[..<(0xa0 << 12)])), .init(0x100000 + 128 << 12, sampleRAM(16, seed: 4)),
    ])
    sample.processors = [HyperVPages.registers(vp: 0), HyperVPages.registers(vp: 1)]
    return sample
  }

  private func expectSameDirectory(_ first: String, _ second: String) throws {
    #expect(directoryEntries(second).sorted() == ["config.json", "memory-ranges", "state.json"])
    for name in ["config.json", "state.json", "memory-ranges"] {
      #expect(try readFile("\(first)/\(name)") == readFile("\(second)/\(name)"), "\(name)")
      #expect(try fileMode("\(second)/\(name)") == 0o600)
    }
  }

  @Test(arguments: [true, false])
  func everyFileComesBack(isRecognised: Bool) throws {
    let sample = Self.sample
    let directory = try sample.write(bench.directory.file("web"))
    let source = isRecognised ? directory : "cloud-hypervisor:\(directory)"
    expectSuccess(try bench.tool.run("save", source, "--name", "a"))
    let out = bench.directory.file("out")
    expectSuccess(try bench.tool.run("restore", "a", "--format", "cloud-hypervisor", "-o", out))
    try expectSameDirectory(directory, out)
    #expect(try fileMode(out) == 0o700)
    // RAM in ascending order of addresses, wherever the file has it.
    let ranges = sample.ranges.sorted { $0.gpa < $1.gpa }
    #expect(try bench.restore("a") == ranges.flatMap(\.bytes))
    let shown = try bench.tool.json("show", "a")
    #expect(shown["vm"] as? String == "web")
    #expect(shown["source"] as? String == "cloud-hypervisor:\(directory)")
    let regions = shown["memory_regions"] as? [[String: Any]] ?? []
    #expect(
      regions.map { $0["name"] as? String } == ["ram-0x0", "ram-0x100000", "ram-0x100000000"]
    )
    #expect(try bench.tool.verify().succeeded)
    #expect(bench.leftovers.isEmpty)
    // What was restored is saved again as the same.
    expectSuccess(try bench.tool.run("save", out, "--name", "b", "--vm", "web"))
    let digests = try ["a", "b"].map { try bench.tool.json("show", $0)["digest"] as? String }
    #expect(digests[0] == digests[1])
  }

  @Test func overlaysAreFoundInTheRegisters() throws {
    let directory = try Self.sample.write(bench.directory.file("web"))
    expectSuccess(try bench.tool.run("save", directory, "--name", "a"))
    try expectOverlays("a", bench, origin: "cloud-hypervisor-msrs")
  }

  @Test func overlaysCanBeLeftAlone() throws {
    let directory = try Self.sample.write(bench.directory.file("web"))
    expectSuccess(try bench.tool.run("save", directory, "--name", "a", "--overlays", "none"))
    let shown = try bench.tool.json("show", "a")["overlays"] as? [String: Any] ?? [:]
    #expect((shown["overlays"] as? [Any])?.isEmpty == true)
    let out = bench.directory.file("out")
    expectSuccess(try bench.tool.run("restore", "a", "--format", "cloud-hypervisor", "-o", out))
    try expectSameDirectory(directory, out)
  }

  /// A page whose bytes are not those of its kind is named, and kept.
  @Test func aPageWithOtherBytesIsNamed() throws {
    var sample = Self.sample
    sample.ranges[2].bytes.replaceSubrange((0x10 << 12)..<(0x10 << 12 + 4), with: [1, 2, 3, 4])
    let directory = try sample.write(bench.directory.file("web"))
    let outcome = try bench.tool.run("save", directory, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: RAM at PFN 0x10 does not show the bytes of its hypercall overlay; the bytes in "
        + "RAM are kept, as its underlay is unknown\n"
    )
    let out = bench.directory.file("out")
    expectSuccess(try bench.tool.run("restore", "a", "--format", "cloud-hypervisor", "-o", out))
    try expectSameDirectory(directory, out)
  }

  /// A guest would find a page where it has placed none.
  @Test func aPageThatItsRegisterDoesNotPlaceIsNamed() throws {
    let directory = try Self.sample.write(bench.directory.file("web"))
    let document = try bench.write(
      "overlays.json",
      OverlayJSON.document(#"{"kind":"hypercall","pfn":64,"variant":"vmcall"}"#)
    )
    expectSuccess(try bench.tool.run("save", directory, "--name", "a", "--overlays", document))
    #expect(try bench.tool.json("show", "a")["overlay_origin"] as? String == "overlays-json")
    let outcome = try bench.tool.run(
      "restore",
      "a",
      "--format",
      "cloud-hypervisor",
      "-o",
      bench.directory.file("out")
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: RAM at PFN 0x40 gets a hypercall page that no register of the saved device state "
        + "places there\n"
    )
  }

  @Test func whatIsNotSavedIsNamed() throws {
    var sample = Self.sample
    sample.processors = []
    sample.mappings = [(8 << 30, 1 << 20), (4 << 30, 1 << 20)]
    let directory = try sample.write(bench.directory.file("web"))
    try writeFile("\(directory)/note.txt", "x")
    let outcome = try bench.tool.run("save", directory, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    let name = "vmckpt: warning: Cloud Hypervisor snapshot \"\(directory)\": "
    #expect(
      outcome.standardError
        == name
        + "1835008 bytes of RAM, the first at GPA 0x200000000, are not in memory-ranges and are not "
        + "saved: they are in a file of the host's, or not plugged in\n"
        + name + "its file \"note.txt\" is not kept\n"
    )
  }

  @Test func refusalsOfTheCommandLine() throws {
    let directory = try Self.sample.write(bench.directory.file("web"))
    expectFailure(
      try bench.tool.run("save", directory, "--ram-size", "1M"),
      64,
      "a source in the format cloud-hypervisor says itself where its RAM lies; leave --region, "
        + "--qemu-machine and --ram-size out"
    )
    expectFailure(
      try bench.tool.run("save", directory, "--base", "a"),
      64,
      "--base, --diff and --vmstate go with a SOURCE of firecracker:; leave them out"
    )
    expectFailure(
      try bench.tool.run("save", "cloud-hypervisor:-"),
      64,
      "a Cloud Hypervisor snapshot cannot be read from standard input; give its directory"
    )
    try bench.save("raw", sampleRAM(4))
    let out = bench.directory.file("out")
    expectFailure(
      try bench.tool.run("restore", "raw", "--format", "cloud-hypervisor", "-o", out),
      64,
      "snapshot \"raw\" has no state of Cloud Hypervisor, and cannot become a snapshot of it; its RAM alone is "
        + "written by: --format raw"
    )
    expectFailure(
      try bench.tool.run("restore", "raw", "--format", "cloud-hypervisor", "-o", "-"),
      64,
      "the format cloud-hypervisor is a directory, and cannot be written to a stream; name a directory "
        + "with -o"
    )
    #expect(!exists(out))
  }
}

/// Expects the overlays that ``HyperVPages`` places, all of them baked.
func expectOverlays(_ name: String, _ bench: Workbench, origin: String) throws {
  let output = try bench.tool.json("show", name)
  #expect(output["overlay_origin"] as? String == origin)
  let shown = output["overlays"] as? [String: Any] ?? [:]
  #expect(shown["guest_os_id"] as? String == "0x8100060100000000")
  let records = shown["overlays"] as? [[String: Any]] ?? []
  let texts = records.map { record in
    let keys = [
      "kind", "vp", "pfn", "variant", "sequence", "scale", "offset", "msr_bits", "underlay",
    ]
    return keys.compactMap { record[$0].map { "\($0)" } }.joined(separator: " ")
  }
  #expect(
    texts.sorted()
      == [
        "hypercall 0x10 vmmcall unknown",
        "reference-tsc 0x11 3 0x6666666600000000 -100 unknown",
        "synic-message 0 0x1e 0x800 unknown", "synic-message 1 0x1f 0x800 unknown",
        "vp-assist 0 0x14 unknown", "vp-assist 1 0x15 unknown",
      ]
  )
}
