import Testing
import VMCheckpointTestSupport

/// Restores for another host: exact page bytes.
@Suite struct OverlayRetargetTests {
  private let bench: Workbench
  private let ram: [UInt8]

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 9)
    ram = (0..<20).flatMap { _ in generator.compressiblePage() }
  }

  private func page(_ record: String, _ options: String...) throws -> [UInt8] {
    let overlays = try bench.write("o.json", OverlayJSON.document(record))
    try bench.save("s", ram, "--overlays", overlays)
    defer { _ = try? bench.tool.succeed("delete", "s") }
    let path = bench.directory.file("out")
    let outcome = try bench.tool.start(["restore", "s", "-o", path, "--force"] + options).wait()
    expectSuccess(outcome)
    return try readFile(path).page(3)
  }

  @Test func frequenciesGiveTheScaleThatTheyShould() throws {
    let record = #"{"kind":"reference-tsc","pfn":3,"tsc_frequency_hz":2400000000}"#
    #expect(
      try page(record)
        == OverlayJSON.tscPage(sequence: 1, scale: OverlayJSON.scale(hz: 2_400_000_000), offset: 0)
    )
    for (option, hz) in [("3.1G", 3_100_000_000), ("1999999999", 1_999_999_999), ("2M", 0)] {
      let expected =
        hz == 0
        ? OverlayJSON.tscPage(sequence: 0, scale: 0, offset: 0)
        : OverlayJSON.tscPage(sequence: 1, scale: OverlayJSON.scale(hz: UInt64(hz)), offset: 0)
      #expect(try page(record, "--tsc-frequency", option) == expected, "\(option)")
    }
  }

  @Test func fieldsOfAPageGetANewScaleAndTheNextSequence() throws {
    let scale = OverlayJSON.scale(hz: 3_000_000_000)
    for (sequence, next) in [(7, 8), (0xffff_fffe, 1), (0xffff_ffff, 1)] as [(UInt32, UInt32)] {
      let record =
        #"{"kind":"reference-tsc","pfn":3,"sequence":\#(sequence),"scale":"0x123456789abcdef0","offset":-12}"#
      #expect(
        try page(record)
          == OverlayJSON.tscPage(sequence: sequence, scale: 0x1234_5678_9abc_def0, offset: -12)
      )
      #expect(
        try page(record, "--tsc-frequency", "3G")
          == OverlayJSON.tscPage(sequence: next, scale: scale, offset: -12)
      )
    }
    let unused =
      #"{"kind":"reference-tsc","pfn":3,"sequence":0,"scale":5,"offset":6}"#
    #expect(
      try page(unused, "--tsc-frequency", "3G")
        == OverlayJSON.tscPage(sequence: 0, scale: 5, offset: 6)
    )
  }

  @Test(arguments: [
    ("vmcall", "amd", OverlayJSON.vmmcall), ("vmcall", "intel", OverlayJSON.vmcall),
    ("vmmcall", "intel", OverlayJSON.vmcall), ("vmmcall", "amd", OverlayJSON.vmmcall),
    ("return-not-supported", "amd", OverlayJSON.propolisHypercall),
    (
      "xen-vmcall", "amd", OverlayJSON.page([0x0d, 0, 0, 0, 0x80, 0x0f, 0x01, 0xc1, 0xc3])
    ),
  ])
  func vendorsGetTheirInstruction(variant: String, vendor: String, expected: [UInt8]) throws {
    let record = #"{"kind":"hypercall","pfn":3,"variant":"\#(variant)"}"#
    #expect(try page(record, "--cpu-vendor", vendor) == expected)
  }

  /// KVM writes over RAM just the bytes that count, and so must a retargeted restore.
  @Test func bakedPagesKeepTheRestOfTheirBytes() throws {
    let code: [UInt8] = [0x0f, 0x01, 0xc1, 0xc3]
    let baked = ram.replacingPage(3, with: code + ram.page(3).dropFirst(4))
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":3,"variant":"vmcall","underlay":"unknown"}"#
      )
    )
    let source = try bench.write("ram", baked)
    expectSuccess(try bench.tool.run("save", source, "--name", "s", "--overlays", overlays))
    #expect(try bench.restore("s") == baked)
    let amd = try bench.tool.restored("s", "--cpu-vendor", "amd", in: bench.directory)
    #expect(amd.page(3) == [0x0f, 0x01, 0xd9, 0xc3] + ram.page(3).dropFirst(4))
    let intel = try bench.tool.restored("s", "--cpu-vendor", "intel", in: bench.directory)
    #expect(intel == baked)
  }

  @Test(arguments: ["0", "-1", "fast", "1e9999", ""])
  func frequenciesThatMakeNoSenseAreRefused(frequency: String) throws {
    try bench.save("s", ram)
    let target = bench.directory.file("out")
    let outcome = try bench.tool.run("restore", "s", "-o", target, "--tsc-frequency=\(frequency)")
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(!exists(target))
  }

  @Test func whatWasRetargetedIsWhatOverlaysOutSays() throws {
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":3,"variant":"vmcall"}"#,
        #"{"kind":"reference-tsc","pfn":4,"tsc_frequency_hz":2400000000}"#
      )
    )
    try bench.save("s", ram, "--overlays", overlays)
    let (path, out) = (bench.directory.file("out.ram"), bench.directory.file("out.json"))
    try bench.tool.succeed(
      "restore",
      "s",
      "-o",
      path,
      "--overlays-out",
      out,
      "--cpu-vendor",
      "amd",
      "--tsc-frequency",
      "3G"
    )
    expectSuccess(try bench.tool.run("save", path, "--name", "moved", "--overlays", out))
    let moved = try bench.restore("moved")
    #expect(moved.page(3) == OverlayJSON.vmmcall)
    #expect(
      moved.page(4)
        == OverlayJSON.tscPage(sequence: 1, scale: OverlayJSON.scale(hz: 3_000_000_000), offset: 0)
    )
    #expect(try bench.tool.restored("moved", "--overlays", "omit", in: bench.directory) == ram)
    #expect(
      try bench.sql.run("SELECT cpu_vendor, tsc_frequency_hz FROM snapshot WHERE name = 'moved'")
        == "amd|3000000000"
    )
  }
}
