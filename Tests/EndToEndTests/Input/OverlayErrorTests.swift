import Testing
import VMCheckpointTestSupport

/// overlays.json that breaks its format or a rule is refused with the path of what is wrong.
@Suite struct OverlayErrorTests {
  /// The document's `overlays`, or the whole document, and what is said about it.
  static let cases: [(json: String, message: String)] = [
    (
      overlays(#"{"kind":"hypercall","pfn":"0x100","variant":"vmcall"}"#),
      "overlays[0].pfn: 0x100 is outside the guest's RAM; "
        + "check the memory regions, and that this is a PFN and not an address"
    ),
    (
      overlays(
        #"{"kind":"hypercall","pfn":1,"variant":"vmcall"}"#,
        #"{"kind":"hypercall","pfn":1,"variant":"vmmcall"}"#
      ),
      "overlays[1]: a second hypercall overlay at PFN 0x1, beside overlays[0]"
    ),
    (
      overlays(#"{"kind":"hypercall","pfn":1,"variant":"vmcall"}"#, guestOSID: "0"),
      "overlays[0]: a hypercall overlay cannot be enabled while guest_os_id is 0; "
        + "leave guest_os_id out if it is not known"
    ),
    (
      overlays(#"{"kind":"reference-tsc","pfn":1,"tsc_frequency_hz":0}"#),
      "overlays[0].tsc_frequency_hz: out of range: expected 1 to 9223372036854775807"
    ),
    (
      overlays(
        #"{"kind":"hypercall","pfn":1,"variant":"vmcall","underlay":"zero"}"#,
        #"{"kind":"reference-tsc","pfn":1,"tsc_frequency_hz":5,"underlay":"unknown"}"#
      ),
      "overlays[1].underlay: disagrees with overlays[0] about what lies beneath PFN 0x1"
    ),
  ]

  private static func overlays(_ records: String..., guestOSID: String? = nil) -> String {
    let guest = guestOSID.map { #""guest_os_id":\#($0),"# } ?? ""
    return #"{"format":1,\#(guest)"overlays":[\#(records.joined(separator: ","))]}"#
  }

  @Test(.slow, arguments: cases)
  func aBrokenRuleIsRefusedWithItsPath(json: String, message: String) throws {
    try expectRefused(json) { $0.hasSuffix(message) }
  }

  /// The words are the JSON reader's own; what matters here is the path, and that there is one
  /// line.
  @Test(
    .slow,
    arguments: [
      (#"{"format":2,"overlays":[]}"#, "format"),
      (#"{"overlays":[]}"#, "format"),
      (#"{"format":1,"overlays":{}}"#, "overlays"),
      (overlays(#"{"kind":"lapic","pfn":1}"#), "overlays[0].kind"),
      (overlays(#"{"kind":"hypercall","pfn":"one","variant":"vmcall"}"#), "overlays[0].pfn"),
      (overlays(#"{"kind":"hypercall","pfn":-1,"variant":"vmcall"}"#), "overlays[0].pfn"),
      (overlays(#"{"kind":"hypercall","pfn":1.5,"variant":"vmcall"}"#), "overlays[0].pfn"),
      (overlays(#"{"kind":"hypercall","variant":"vmcall"}"#), "overlays[0]"),
      (overlays(#"{"kind":"hypercall","pfn":1,"variant":"sysenter"}"#), "overlays[0].variant"),
      (
        overlays(#"{"kind":"synic-event","vp":0,"pfn":1,"contents":"AAAA"}"#),
        "overlays[0].contents"
      ),
      (
        overlays(
          #"{"kind":"hypercall","pfn":1,"variant":"vmcall"}"#,
          #"{"kind":"hypercall","pfn":2,"variant":"vmcall","underlay":"none"}"#
        ),
        "overlays[1].underlay"
      ),
      (overlays(#"{"kind":"hypercall","pfn":1,"variant":"vmcall","color":1}"#), "overlays[0]"),
    ]
  )
  func malformedOverlaysAreRefusedWithTheirPath(json: String, path: String) throws {
    try expectRefused(json) { $0.contains("\": \(path)") }
  }

  @Test(.slow, arguments: ["", "{", "[]", "\u{0}", #"{"format":1,"overlays":[]} x"#, "null"])
  func whatIsNoDocumentIsRefused(json: String) throws {
    try expectRefused(json) { !$0.isEmpty }
  }

  private func expectRefused(_ json: String, _ isRight: (String) -> Bool) throws {
    let bench = try Workbench()
    try bench.save("first", sampleRAM(20))
    let overlays = try bench.write("overlays.json", json)
    let source = try bench.write("a.ram", sampleRAM(30, seed: 2))
    for (arguments, input) in [
      (["save", source, "--name", "a", "--overlays", overlays], ChildProcess.Input.null),
      (["save", "-", "--name", "a", "--overlays", overlays], .file(source)),
    ] {
      let outcome = try bench.tool.start(arguments, input: input).wait()
      #expect(outcome.ending == .exit(65), "\(outcome)")
      let lines = outcome.standardError.split(separator: "\n")
      #expect(lines.count == 1)
      #expect(lines.first.map { isRight(String($0)) } == true, "\(outcome)")
    }
    try expectSound(bench, [("first", sampleRAM(20))], "after overlays were refused")
  }

  @Test func aReferenceTSCOutsideRAMIsKeptAndNotApplied() throws {
    let bench = try Workbench()
    let ram = sampleRAM(20)
    let overlays = try bench.write(
      "o.json",
      Self.overlays(#"{"kind":"reference-tsc","pfn":"0x9000","tsc_frequency_hz":2400000000}"#)
    )
    try bench.save("a", ram, "--overlays", overlays)
    #expect(try bench.restore("a") == ram)
    let result = try bench.tool.json("restore", "a", "-o", bench.directory.file("out.ram"))
    #expect(result["applied_overlay_count"] as? Int == 0)
    #expect(try bench.sql.run("SELECT pfn_hex, in_ram FROM overlay_stack") == "0x9000|0")
    #expect(try bench.sql.run("SELECT count(*) FROM active_overlay") == "0")
  }
}
