import Testing
import VMCheckpointTestSupport

/// RAM that does not show what its overlays derive is saved all the same, with a warning.
@Suite struct OverlayWarningTests {
  private let bench: Workbench
  private let ram: [UInt8]

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 10)
    ram = (0..<20).flatMap { _ in generator.compressiblePage() }
  }

  private func warning(_ pfn: String, _ kind: String, _ consequence: String) -> String {
    "RAM at PFN \(pfn) does not show the bytes of its \(kind) overlay; \(consequence)"
  }

  private let replaced = "the underlay that was given is stored in their place"
  private let kept = "the bytes in RAM are kept, as its underlay is unknown"

  @Test func bytesThatDifferAreToldAndNotInvented() throws {
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":9,"variant":"vmcall","underlay":"zero"}"#,
        #"{"kind":"hypercall","pfn":3,"variant":"vmcall","underlay":"unknown"}"#
      )
    )
    let source = try bench.write("ram", ram)
    let outcome = try bench.tool.run("save", source, "--name", "s", "--overlays", overlays)
    #expect(outcome.ending == .exit(0))
    let expected = [warning("0x3", "hypercall", kept), warning("0x9", "hypercall", replaced)]
    #expect(outcome.standardError == expected.map { "vmckpt: warning: \($0)\n" }.joined())
    let bare = try bench.tool.restored("s", "--overlays", "omit", in: bench.directory)
    #expect(bare == ram.replacingPage(9, with: OverlayJSON.page([])))

    let json = try bench.tool.json("save", source, "--name", "t", "--overlays", overlays)
    #expect(json["warnings"] as? [String] == expected)
  }

  /// RAM that shows an overlay is not bare: what the record forgot would be saved as the guest's own page.
  @Test func anOverlayThatRAMShowsWithoutAnUnderlayIsTold() throws {
    let captured = ram.replacingPage(9, with: OverlayJSON.vmcall)
    let source = try bench.write("ram", captured)
    let record = #"{"kind":"hypercall","pfn":PFN,"variant":"vmcall"}"#
    for (pfn, isTold) in [("9", true), ("8", false)] {
      let overlays = try bench.write(
        "o.json",
        OverlayJSON.document(record.replacing("PFN", with: pfn))
      )
      let saved = try bench.tool.json("save", source, "--overlays", overlays, "--vm", "w-\(pfn)")
      let warnings = try #require(saved["warnings"] as? [String])
      #expect(
        warnings
          == (isTold
            ? [
              "RAM at PFN 0x9 shows the very bytes of its overlay, and its record says that RAM is bare there: give "
                + "the record an \"underlay\", which is \"unknown\" where the overlay was written over RAM"
            ] : [])
      )
    }
  }

  @Test func bytesThatMatchGiveNoWarning() throws {
    let captured = ram.replacingPage(9, with: OverlayJSON.vmcall)
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(#"{"kind":"hypercall","pfn":9,"variant":"vmcall","underlay":"zero"}"#)
    )
    let source = try bench.write("ram", captured)
    expectSuccess(try bench.tool.run("save", source, "--overlays", overlays))
    expectSuccess(try bench.tool.run("save", "-", "--overlays", overlays, input: .file(source)))
  }

  /// In a hole of the file nothing is read, but an underlay must come into its place.
  @Test func underlaysOverHolesOfTheFileAreStored() throws {
    let path = bench.directory.file("ram")
    try makeHole(path, byteCount: 8 << 20)
    let underlay = ram.page(1)
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":1500,"variant":"vmcall","underlay":"\#(OverlayJSON.base64(underlay))"}"#
      )
    )
    let outcome = try bench.tool.run("save", path, "--name", "s", "--overlays", overlays)
    #expect(outcome.succeeded)
    #expect(
      outcome.standardError == "vmckpt: warning: \(warning("0x5dc", "hypercall", replaced))\n"
    )
    let bare = try bench.tool.restored("s", "--overlays", "omit", in: bench.directory)
    #expect(bare.page(1500) == underlay)
    #expect(try bench.restore("s").page(1500) == OverlayJSON.vmcall)
    #expect(try bench.sql.integer("SELECT stored_pages FROM snapshot") == 1)
  }
}
