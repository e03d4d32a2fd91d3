import Foundation
import Testing
import VMCheckpointTestSupport

/// Overlays stacked at one PFN over a nonzero underlay: the guest sees the right one, and what
/// lies beneath comes back.
@Suite struct OverlayStackTests {
  private let bench: Workbench
  /// All pages distinct and none zero.
  private let ram: [UInt8]
  private let pfn = 5
  private let message: [UInt8]

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 7)
    ram = (0..<40).flatMap { _ in generator.compressiblePage() }
    message = generator.compressiblePage()
  }

  /// What the captured RAM shows at the PFN, and what the records say lies beneath.
  enum Capture: String, CaseIterable {
    case bare
    case overUnderlay
    case overZero
    case baked
  }

  /// A SynIC page below a TSC page below a hypercall page, in any order in the file.
  private func document(_ capture: Capture, depth: Int) -> String {
    let underlay: String? =
      switch capture {
      case .bare: nil
      case .overUnderlay: OverlayJSON.base64(ram.page(pfn))
      case .overZero: "zero"
      case .baked: "unknown"
      }
    var records = [
      #""kind":"synic-message","vp":3,"pfn":\#(pfn),"contents":"\#(OverlayJSON.base64(message))""#,
      #""kind":"reference-tsc","pfn":\#(pfn),"tsc_frequency_hz":2400000000"#,
      #""kind":"hypercall","pfn":\#(pfn),"variant":"return-not-supported""#,
    ]
    records = Array(records.suffix(depth))
    // One record gives the underlay: which one must not matter.
    let body = records.enumerated().map { index, members in
      OverlayJSON.record(members, underlay: index == depth / 2 ? underlay : nil)
    }
    return #"{"format":1,"overlays":[\#(body.joined(separator: ","))]}"#
  }

  @Test(.slow, arguments: Capture.allCases, [1, 2, 3])
  func theGuestSeesTheRightOverlayAndTheUnderlayComesBack(
    capture: Capture,
    depth: Int
  ) throws {
    // With three, two or one overlay the hypercall page is on top.
    let shown = OverlayJSON.propolisHypercall
    let captured = capture == .bare ? ram : ram.replacingPage(pfn, with: shown)
    let overlays = try bench.write("overlays.json", document(capture, depth: depth))
    let source = try bench.write("ram", captured)
    let saved = try bench.tool.run("save", source, "--name", "s", "--overlays", overlays)
    expectSuccess(saved)

    let withOverlays = try bench.tool.restored("s", in: bench.directory)
    #expect(withOverlays == ram.replacingPage(pfn, with: shown))
    let bare = try bench.tool.restored("s", "--overlays", "omit", in: bench.directory)
    switch capture {
    case .bare, .overUnderlay: #expect(bare == ram)
    case .overZero: #expect(bare == ram.replacingPage(pfn, with: OverlayJSON.page([])))
    case .baked: #expect(bare == captured)
    }

    let active = try bench.sql.run("SELECT kind FROM active_overlay WHERE pfn = \(pfn)")
    #expect(active == "hypercall")
    let stack = try bench.sql.run("SELECT kind FROM overlay_stack ORDER BY depth")
    let all = ["hypercall", "reference-tsc", "synic-message"]
    #expect(stack == all.prefix(depth).joined(separator: "\n"))
    try expectSameWhenSavedAgain("s")
  }

  /// RAM and overlays-out together are the same snapshot again.
  private func expectSameWhenSavedAgain(
    _ name: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let digest = try bench.tool.json("show", name)["digest"] as? String
    for treatment in ["apply", "omit"] {
      let (path, out) = (
        bench.directory.file("\(treatment).ram"), bench.directory.file("\(treatment).json")
      )
      try bench.tool.succeed(
        "restore",
        name,
        "-o",
        path,
        "--overlays",
        treatment,
        "--overlays-out",
        out
      )
      let again = try bench.tool.json("save", path, "--overlays", out)
      #expect(again["digest"] as? String == digest, "\(treatment)", sourceLocation: sourceLocation)
      #expect(again["new_pages"] as? Int == 0, "\(treatment)", sourceLocation: sourceLocation)
      #expect(
        (again["warnings"] as? [String])?.isEmpty == true,
        "\(again)",
        sourceLocation: sourceLocation
      )
    }
  }

  /// By priority, then by VP: the order in the file never matters.
  @Test func theLowestVirtualProcessorIsActiveAmongEqualKinds() throws {
    var generator = TestGenerator(seed: 8)
    let pages = (0..<3).map { _ in generator.compressiblePage() }
    let records = [2, 0, 1].map { vp in
      #"{"kind":"synic-event","vp":\#(vp),"pfn":5,"contents":"\#(OverlayJSON.base64(pages[vp]))"}"#
    }
    let overlays = try bench.write(
      "o.json",
      #"{"format":1,"overlays":[\#(records.joined(separator: ","))]}"#
    )
    try bench.save("s", ram, "--overlays", overlays)
    #expect(try bench.restore("s") == ram.replacingPage(5, with: pages[0]))
    try expectSameWhenSavedAgain("s")
  }

  @Test func stackedOverlaysAtTheFirstAndLastPageAreRestored() throws {
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":0,"variant":"vmcall"}"#,
        #"{"kind":"hypercall","pfn":39,"variant":"vmmcall"}"#
      )
    )
    try bench.save("s", ram, "--overlays", overlays)
    let expected = ram.replacingPage(0, with: OverlayJSON.vmcall)
      .replacingPage(39, with: OverlayJSON.vmmcall)
    #expect(try bench.restore("s") == expected)
    let stream = try bench.tool.run("restore", "s", "-o", "-")
    #expect(stream.standardOutput == expected)
  }

  /// Contents that a guest writes are pages like any other.
  @Test func guestWritableContentsShareThePagesOfRAM() throws {
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"synic-message","vp":0,"pfn":1,"contents":"\#(OverlayJSON.base64(ram.page(9)))"}"#,
        #"{"kind":"vp-assist","vp":0,"pfn":2,"contents":"\#(OverlayJSON.base64(message))"}"#,
        #"{"kind":"synic-event","vp":1,"pfn":3,"contents":"\#(OverlayJSON.base64(message))"}"#,
        #"{"kind":"synic-event","vp":0,"pfn":3,"contents":"\#(OverlayJSON.base64(OverlayJSON.page([])))"}"#
      )
    )
    let source = try bench.write("ram", ram)
    let saved = try bench.tool.json("save", source, "--name", "s", "--overlays", overlays)
    #expect(saved["new_pages"] as? Int == 41)
    #expect(try bench.sql.integer("SELECT sum(page_count) FROM chunk") == 41)
    #expect(
      try bench.sql.integer("SELECT count(*) FROM overlay WHERE contents_chunk_id IS NULL") == 1
    )
    let expected = ram.replacingPage(1, with: ram.page(9)).replacingPage(2, with: message)
      .replacingPage(3, with: OverlayJSON.page([]))
    #expect(try bench.restore("s") == expected)
    try expectSameWhenSavedAgain("s")
    // Deleting what shares a page keeps it as long as an overlay names it.
    try bench.save("other", message + ram.page(9))
    try bench.tool.succeed("delete", "other")
    try bench.tool.succeed("gc")
    #expect(try bench.restore("s") == expected)
    #expect(try bench.tool.verify().succeeded)
  }
}
