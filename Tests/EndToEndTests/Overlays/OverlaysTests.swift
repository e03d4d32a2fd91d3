import Testing
import VMCheckpointTestSupport

/// A conversion that loses or invents an overlay puts a page where the guest does not expect it.
@Suite struct OverlaysTests {
  private static let ron =
    "(msr_guest_os_id:9295436232257437696,msr_hypercall:67108867,"
    + "reference_tsc:Some((msr_value:67112961,guest_freq:2400000000)))\n"
  private static let json =
    #"{"msr_guest_os_id":9295436232257437696,"msr_hypercall":67108867,"#
    + #""reference_tsc":{"msr_value":67112961,"guest_freq":2400000000}}"# + "\n"
  private static let msrs = """
    {
      "msrs": {
        "0x40000000": "0x8100060100000000",
        "0x40000001": "0x4000003",
        "0x40000021": "0x4001001"
      },
      "tsc_frequency_hz": 2400000000
    }

    """
  private static let overlays = """
    {
      "format": 1,
      "guest_os_id": "0x8100060100000000",
      "overlays": [
        {
          "kind": "hypercall",
          "pfn": "0x4000",
          "msr_bits": "0x2",
          "variant": "return-not-supported"
        },
        {
          "kind": "reference-tsc",
          "pfn": "0x4001",
          "tsc_frequency_hz": 2400000000
        }
      ]
    }

    """
  private static let spellings = [
    "propolis-ron": ron, "propolis-json": json, "msrs": msrs, "overlays-json": overlays,
  ]

  private func convert(
    _ bench: Workbench,
    _ document: String,
    from source: String,
    to target: String,
    _ options: [String] = []
  ) throws -> ProcessOutcome {
    let path = try bench.write("in", document)
    return try bench.tool.start(["overlays", path, "--from", source, "--to", target] + options)
      .wait()
  }

  @Test(arguments: spellings.keys.sorted(), spellings.keys.sorted())
  func everyFormatBecomesEveryOther(source: String, target: String) throws {
    let bench = try Workbench()
    let outcome = try convert(bench, Self.spellings[source]!, from: source, to: target)
    guard source != target else {
      expectFailure(
        outcome,
        64,
        "there is nothing to convert from \(source) to \(target); name two formats"
      )
      return
    }
    expectSuccess(outcome)
    #expect(outcome.text == Self.spellings[target])
    #expect(!exists(bench.storePath), "no store is used")
  }

  @Test func withoutOverlaysThereAreNone() throws {
    let bench = try Workbench()
    let ron = " ( msr_guest_os_id : 0x0, msr_hypercall: 0,\n reference_tsc: None, )\n"
    for (target, expected) in [
      ("propolis-json", #"{"msr_guest_os_id":0,"msr_hypercall":0,"reference_tsc":null}"# + "\n"),
      (
        "msrs",
        "{\n  \"msrs\": {\n    \"0x40000000\": \"0x0\",\n    \"0x40000001\": \"0x0\"\n  }\n}\n"
      ),
      (
        "overlays-json",
        "{\n  \"format\": 1,\n  \"guest_os_id\": \"0x0\",\n  \"overlays\": []\n}\n"
      ),
    ] {
      let outcome = try convert(bench, ron, from: "propolis-ron", to: target)
      expectSuccess(outcome)
      #expect(outcome.text == expected)
    }
  }

  @Test func optionsSayWhatTheDocumentDoesNot() throws {
    let bench = try Workbench()
    let msrs = #"{"msrs":{"0x40000001":"0x4000003","0x40000021":67112961}}"#
    let outcome = try convert(
      bench,
      msrs,
      from: "msrs",
      to: "propolis-ron",
      [
        "--guest-os-id", "0x8100060100000000", "--tsc-frequency", "2.4G", "--reference-tsc",
        "present",
      ]
    )
    expectSuccess(outcome)
    #expect(outcome.text == Self.ron)
    let variant = try convert(
      bench,
      #"{"msrs":{"0x40000001":"0x5001"}}"#,
      from: "msrs",
      to: "overlays-json",
      ["--hypercall-variant", "vmcall", "--ram-size", "24K", "--json"]
    )
    let result = try variant.jsonObject()
    #expect(
      Set(result.keys) == ["from", "to", "overlay_count", "document", "warnings"]
    )
    #expect(result["overlay_count"] as? Int == 1)
    #expect((result["document"] as? String)?.contains(#""variant": "vmcall""#) == true)
  }

  @Test func whatIsLostIsSaid() throws {
    let bench = try Workbench()
    let shown = #"""
      {"format":1,"guest_os_id":1,"overlays":[
       {"kind":"hypercall","pfn":4,"variant":"return-not-supported","underlay":"zero"}]}
      """#
    let outcome = try convert(bench, shown, from: "overlays-json", to: "propolis-ron")
    #expect(outcome.succeeded)
    #expect(
      outcome.standardError
        == "vmckpt: warning: RAM shows the hypercall overlay at PFN 0x4, and propolis-ron goes with "
        + "bare RAM\n"
    )
    let disabled =
      #"{"msr_guest_os_id":1,"msr_hypercall":0,"#
      + #""reference_tsc":{"msr_value":0,"guest_freq":1000}}"#
    let lost = try convert(bench, disabled, from: "propolis-json", to: "overlays-json")
    #expect(
      lost.standardError
        == "vmckpt: warning: the VM has a reference TSC that the guest has not enabled, and "
        + "overlays-json does not say so\n"
    )
  }

  typealias Refusal = (
    source: String, target: String, document: String, options: [String], message: String
  )

  static let refusals: [Refusal] = [
    (
      "propolis-ron", "msrs",
      "(msr_guest_os_id:0,msr_hypercall:4097,reference_tsc:None)", [],
      "the hypercall page is enabled while the guest OS ID is 0"
    ),
    (
      "propolis-ron", "msrs",
      "(msr_guest_os_id:1,msr_hypercall:4097,reference_tsc:None)", ["--ram-size", "4K"],
      "the hypercall page is at PFN 0x1, which is outside the guest's RAM; check the guest's RAM size"
    ),
    (
      "propolis-ron", "msrs",
      "(msr_guest_os_id:1,msr_hypercall:3221225473,reference_tsc:None)", ["--ram-size", "8G"],
      "the hypercall page is at PFN 0xc0000, which is outside the guest's RAM; "
        + "check the guest's RAM size"
    ),
    (
      "propolis-json", "msrs",
      #"{"msr_guest_os_id":1,"msr_hypercall":0,"reference_tsc":null}"#,
      ["--reference-tsc", "present"],
      "a VM with a reference TSC cannot import a state without one; "
        + "give the VM the same Hyper-V features as the one that was saved"
    ),
    (
      "propolis-ron", "msrs",
      "(msr_guest_os_id:1,msr_hypercall:0,reference_tsc:Some((msr_value:1,guest_freq:7)))",
      ["--reference-tsc", "absent"],
      "a VM without a reference TSC cannot import a state with one; "
        + "give the VM the same Hyper-V features as the one that was saved"
    ),
    (
      "propolis-ron", "msrs",
      "(msr_guest_os_id:1,msr_hypercall:0,reference_tsc:Some((msr_value:1,guest_freq:0)))", [],
      "the guest's TSC frequency is 0 Hz; expected 1 to 9223372036854775807"
    ),
    (
      "propolis-ron", "msrs", "(msr_guest_os_id:1,msr_hypercall:0)", [],
      "reference_tsc: missing"
    ),
    (
      "propolis-ron", "msrs",
      "(msr_guest_os_id:1,msr_hypercall:0,reference_tsc:None,more:1)", [],
      "more: unknown field"
    ),
    (
      "propolis-ron", "msrs", "(msr_guest_os_id:1,msr_guest_os_id:1)", [],
      "msr_guest_os_id is given twice (line 1, column 35)"
    ),
    (
      "propolis-ron", "msrs", "(msr_guest_os_id:18446744073709551616)", [],
      "expected an integer of 64 bits (line 1, column 18)"
    ),
    (
      "propolis-ron", "msrs", "(a:Some(Some(Some(Some(Some(Some(Some(Some(Some(1))))))))))", [],
      "nested more than 8 levels deep (line 1, column 39)"
    ),
    (
      "propolis-ron", "msrs", "", [], "expected a name (line 1, column 1)"
    ),
    (
      "propolis-json", "msrs", #"{"msr_guest_os_id":1,"msr_hypercall":"x","reference_tsc":null}"#,
      [],
      "msr_hypercall: expected an integer or a string \"0x…\" of 1 to 16 hexadecimal digits"
    ),
    (
      "msrs", "overlays-json", #"{"msrs":{"0x10":1}}"#, [],
      "msrs.\"0x10\": places no overlay; expected 0x40000000, 0x40000001 or 0x40000021"
    ),
    (
      "msrs", "overlays-json", #"{"msrs":{"0x40000001":0,"0x040000001":0}}"#, [],
      "msrs.\"0x040000001\": expected an MSR's number as \"0x…\""
    ),
    (
      "overlays-json", "msrs",
      #"{"format":1,"overlays":[{"kind":"hypercall","pfn":1,"variant":"vmcall"},"#
        + #"{"kind":"hypercall","pfn":2,"variant":"vmcall"}]}"#,
      [],
      "overlays[1]: a second hypercall overlay, and a VM has one register for it"
    ),
    (
      "overlays-json", "propolis-ron",
      #"{"format":1,"guest_os_id":1,"overlays":[{"kind":"hypercall","pfn":1,"variant":"vmcall"}]}"#,
      [],
      "the guest's hypercall page is vmcall, and Propolis has only return-not-supported; "
        + "set it with --hypercall-variant, if the guest shall have Propolis's page"
    ),
  ]

  @Test(arguments: refusals)
  func whatPropolisRefusesIsRefused(
    source: String,
    target: String,
    document: String,
    options: [String],
    message: String
  ) throws {
    let bench = try Workbench()
    let outcome = try convert(bench, document, from: source, to: target, options)
    expectFailure(outcome, 65, "\"\(bench.directory.file("in"))\": \(message)")
  }

  @Test(arguments: [
    (
      "msrs", "overlays-json", #"{"msrs":{"0x40000021":1}}"#,
      "the frequency of the guest's TSC is not known, and its reference TSC page depends on it; "
        + "give it with --tsc-frequency"
    ),
    (
      "msrs", "propolis-json", #"{"msrs":{}}"#,
      "the guest OS ID is not known, and Propolis needs it; give it with --guest-os-id"
    ),
    (
      "overlays-json", "propolis-ron",
      #"{"format":1,"guest_os_id":1,"overlays":[{"kind":"reference-tsc","pfn":1,"sequence":1,"#
        + #""scale":5,"offset":0}]}"#,
      "the reference TSC page has a sequence, scale and offset, and Propolis derives them from the "
        + "TSC's frequency; give the frequency with --tsc-frequency"
    ),
  ])
  func whatIsMissingIsAskedFor(
    source: String,
    target: String,
    document: String,
    message: String
  ) throws {
    let bench = try Workbench()
    expectFailure(try convert(bench, document, from: source, to: target), 64, message)
  }

  /// The overlays that a snapshot got from an archive are those that Propolis gets back.
  @Test(.slow) func aSnapshotsOverlaysAreThoseOfItsDevice() throws {
    let bench = try Workbench()
    var sample = PropolisSample(mebibytes: 65)
    sample.addHyperV(String(Self.json.dropLast()))
    let archive = try bench.write("web.tar", sample.archive().bytes)
    expectSuccess(try bench.tool.run("save", "propolis:\(archive)", "--name", "web"))
    let bare = bench.directory.file("bare.json")
    expectSuccess(
      try bench.tool.start(
        ["restore", "web", "-o", "\(archive).out", "--format", "propolis", "--overlays-out", bare]
      ).wait()
    )
    let outcome = try bench.tool.start(
      ["overlays", "-", "--from", "overlays-json", "--to", "propolis-json", "--ram-size", "65M"],
      input: .file(bare)
    ).wait()
    expectSuccess(outcome)
    #expect(outcome.text == Self.json)
  }
}
