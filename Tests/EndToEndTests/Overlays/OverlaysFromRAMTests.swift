import Foundation
import Testing
import VMCheckpointTestSupport

/// Registers do not say all that is in the pages that they place: the RAM that was captured with them does.
@Suite struct OverlaysFromRAMTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private static let registers = """
    {"msrs": {"0x40000000": "0x8100060100000000", "0x40000001": "0x3001", "0x40000021": "0x4001",
              "0x40000073": "0x5001"}}
    """

  private func convert(_ options: String...) throws -> ProcessOutcome {
    let path = try bench.write("in", Self.registers)
    return try bench.tool.start(
      ["overlays", path, "--from", "msrs", "--to", "overlays-json"] + options
    ).wait()
  }

  private func ram() -> [UInt8] {
    sampleRAM(16).replacingPage(3, with: OverlayJSON.vmmcall)
      .replacingPage(4, with: OverlayJSON.tscPage(sequence: 7, scale: 0x1234, offset: -99))
      .replacingPage(5, with: OverlayJSON.page([1, 2, 3]))
  }

  @Test(
    "a clock's offset, a page that the guest writes, and what was written over RAM come from RAM"
  )
  func whatRAMShows() throws {
    let file = try bench.write("guest.ram", ram())
    let outcome = try convert("--ram", file)
    try #require(outcome.succeeded, "\(outcome)")
    let overlays = try bench.write("o.json", outcome.text)
    // Saved with it, RAM needs no warning and comes back as it was.
    let saved = try bench.tool.json("save", file, "--name", "a", "--overlays", overlays)
    #expect(saved["warnings"] as? [String] == [])
    #expect(saved["overlay_count"] as? Int == 3)
    #expect(try bench.restore("a") == ram())
    let shown = try #require(try bench.tool.json("show", "a")["overlays"] as? [String: Any])
    let records = try #require(shown["overlays"] as? [[String: Any]])
    #expect(records.map { $0["kind"] as? String } == ["hypercall", "reference-tsc", "vp-assist"])
    #expect(records.allSatisfy { $0["underlay"] as? String == "unknown" })
    #expect(records[0]["variant"] as? String == "vmmcall")
    #expect(records[1]["offset"] as? Int == -99)
    #expect(records[1]["sequence"] as? Int == 7)
    #expect(
      records[2]["contents"] as? String == OverlayJSON.base64(OverlayJSON.page([1, 2, 3]))
    )
  }

  @Test("RAM that is bare at a page gives a record without an underlay")
  func bareRAM() throws {
    var bare = sampleRAM(16).replacingPage(4, with: OverlayJSON.page([]))
    bare = bare.replacingPage(3, with: OverlayJSON.page([9, 9]))
    let file = try bench.write("guest.ram", bare)
    let unknown = try convert("--ram", file)
    #expect(unknown.ending == .exit(64), "\(unknown)")
    let outcome = try convert(
      "--ram",
      file,
      "--tsc-frequency",
      "2.4G",
      "--hypercall-variant",
      "vmcall"
    )
    try #require(outcome.succeeded, "\(outcome)")
    let document = try #require(
      try JSONSerialization.jsonObject(with: Data(outcome.text.utf8)) as? [String: Any]
    )
    let records = try #require(document["overlays"] as? [[String: Any]])
    #expect(records.map { $0["underlay"] as? String } == [nil, nil, "unknown"])
    #expect(records[0]["variant"] as? String == "vmcall")
    #expect(records[1]["tsc_frequency_hz"] as? Int == 2_400_000_000)
  }

  @Test("without RAM, what no register holds is left out and said, and the rest converted")
  func withoutRAM() throws {
    let outcome = try convert("--tsc-frequency", "2.4G")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: the vp-assist page at PFN 0x5 is left out: no register holds its contents; give the RAM "
        + "that was captured with --ram\n"
    )
    #expect(outcome.text.contains("reference-tsc") && outcome.text.contains("hypercall"))
    #expect(!outcome.text.contains("vp-assist"))
  }

  @Test("RAM in regions is found where they are, and other conversions take none")
  func regions() throws {
    let file = try bench.write("guest.ram", Array(ram()[(3 << 12)...]))
    let outcome = try convert("--ram", file, "--region", "gpa=0x3000,size=52K")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.text.contains("vmmcall"))
    let path = try bench.write("o.json", OverlayJSON.document())
    let refused = try bench.tool.run(
      "overlays",
      path,
      "--from",
      "overlays-json",
      "--to",
      "msrs",
      "--ram",
      file
    )
    #expect(refused.ending == .exit(64), "\(refused)")
    #expect(try convert("--region", "gpa=0,size=4K").ending == .exit(64))
  }
}
