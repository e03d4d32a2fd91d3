import Glibc
import Testing
import VMCheckpointTestSupport

/// A live guest that enables, calls and reads its overlays, saved and restored by a VMM that uses
/// the library.
@Suite(
  .kvm,
  .enabled(if: OverlayGuest.canRun, "no guest can run: /dev/kvm is missing, or may not be opened")
)
struct OverlayGuestTests {
  private typealias Pages = OverlayGuestPages

  private let guest: OverlayGuest
  private var tool: VMCkptTool { guest.bench.tool }

  init() throws {
    guest = try OverlayGuest()
  }

  @Test(
    "a restored guest goes on with the overlays that it had",
    arguments: ["frequency", "offset"]
  )
  func goesOn(clock: String) throws {
    let hz: UInt64 = 2_400_000_000
    let before = try guest.run(
      "--clock",
      clock,
      "--tsc-frequency",
      "\(hz)",
      "use",
      "use",
      "save:one",
      "use"
    )
    let after = try guest.resume("one", "--tsc-frequency", "\(hz)", "use", "use")

    #expect(before.map(\.round) == [1, 2, 3], "saving does not disturb the guest")
    #expect(after.map(\.round) == [3, 4])
    for report in before + after {
      #expect(report.problems.isEmpty)
      #expect(report.enabled == ["hypercall", "reference-tsc"])
      #expect(report.hypercallResult == 2)
      #expect(report.scale == Pages.scale(hz: hz))
    }
    if clock == "frequency" {
      #expect((before + after).allSatisfy { $0.sequence == "0x1" && $0.offset == "0x0" })
    } else {
      // Another host's TSC needs another offset, and that another sequence.
      #expect(before.map(\.sequence) == ["0x1", "0x1", "0x1"])
      #expect(after.map(\.sequence) == ["0x2", "0x2"])
      // Time stands still while the guest is saved.
      let (saved, resumed) = (before[1].referenceTime, after[0].referenceTime)
      #expect((saved...saved + 60 * 10_000_000).contains(resumed))
    }
  }

  @Test("the store holds bare RAM, and both overlays where the guest put them")
  func storeHoldsWhatTheGuestDid() throws {
    _ = try guest.run("--tsc-frequency", "2400000000", "use", "save:one")
    expectSuccess(try tool.verify())

    let overlays = try #require(try tool.json("show", "one")["overlays"] as? [String: Any])
    #expect(overlays["guest_os_id"] as? String == "0x8100000601000000")
    let records = try #require(overlays["overlays"] as? [[String: Any]])
    #expect(records.map { $0["kind"] as? String } == ["hypercall", "reference-tsc"])
    #expect(records.map { $0["pfn"] as? String } == ["0x10", "0x11"])
    #expect(records.first?["variant"] as? String == "return-not-supported")
    #expect(records.last?["tsc_frequency_hz"] as? Int == 2_400_000_000)

    let bare = try tool.restored("one", "--overlays", "omit", in: guest.bench.directory)
    #expect(bare.page(Pages.hypercallPFN) == Pages.beneathHypercall)
    #expect(bare.page(Pages.referenceTSCPFN) == Pages.beneathReferenceTSC)
    let shown = try tool.restored("one", in: guest.bench.directory)
    #expect(shown.page(Pages.hypercallPFN) == OverlayJSON.propolisHypercall)
    let scale = OverlayJSON.scale(hz: 2_400_000_000)
    #expect(
      shown.page(Pages.referenceTSCPFN)
        == OverlayJSON.tscPage(sequence: 1, scale: scale, offset: 0)
    )
  }

  @Test("a guest runs while its RAM comes from the store", arguments: [[], ["--no-prefetch"]])
  func lazily(options: [String]) throws {
    _ = try guest.run("--tsc-frequency", "2400000000", "use", "save:one")
    let server = try ServeTool(
      guest.bench,
      "one",
      "--overlays",
      "omit",
      options.first ?? "--once",
      "--json"
    )
    let reports = try guest.resumeLazily(
      "one",
      servedAt: server.socketPath,
      "--tsc-frequency",
      "2400000000",
      "use",
      "disable-hypercall",
      "save:two",
      "disable-reference-tsc",
      "save:three"
    )
    // The guest compares all 4096 bytes of what lay beneath itself.
    #expect(reports.map(\.problems) == [[], [], []])
    #expect(reports.map(\.round) == [2, 3, 4])
    #expect(reports.map(\.enabled) == [["hypercall", "reference-tsc"], ["reference-tsc"], []])
    if !options.isEmpty { server.process.send(SIGTERM) }
    let outcome = try server.process.wait()
    let result = try outcome.jsonObject()
    #expect(outcome.succeeded && result["vms"] as? Int == 1, "\(outcome)")
    if !options.isEmpty { #expect(result["fault_pages"] as? Int ?? 0 >= 6) }
    // What it saved holds all of its RAM, also what it had not touched.
    let eager = try guest.resume(
      "one",
      "--tsc-frequency",
      "2400000000",
      "use",
      "disable-hypercall",
      "save:eager-two"
    )
    #expect(eager[0].problems.isEmpty)
    let (lazy, other) = (
      try tool.restored("two", "--overlays", "omit", in: guest.bench.directory),
      try tool.restored("eager-two", "--overlays", "omit", in: guest.bench.directory)
    )
    let differing = (0..<(lazy.count / 4096)).filter { lazy.page($0) != other.page($0) }
    // The report, and the stack and clock page near it, tell rounds and times.
    #expect(Set(differing).isSubset(of: [0x7, 0x9, Pages.referenceTSCPFN]), "\(differing)")
    let three = try tool.restored("three", in: guest.bench.directory)
    #expect(three.page(Pages.hypercallPFN) == Pages.beneathHypercall)
    #expect(three.page(Pages.referenceTSCPFN) == Pages.beneathReferenceTSC)
    expectSuccess(try tool.verify())
  }

  @Test("on a host with another TSC frequency the guest reads another scale")
  func retargeted() throws {
    // A lower frequency: where KVM cannot set the TSC, time jumps, and so does not go back.
    _ = try guest.run("--tsc-frequency", "2400000000", "use", "save:one")
    let slower = try guest.resume("one", "--tsc-frequency", "2000000000", "use")
    #expect(slower[0].problems.isEmpty)
    #expect(slower[0].clockPage == ["0x1", Pages.scale(hz: 2_000_000_000), "0x0"])
    #expect(slower[0].hypercallResult == 2)
  }

  @Test("a frequency at which the TSC has no value is an error, not a crash")
  func impossibleFrequency() throws {
    _ = try guest.run("--tsc-frequency", "1", "use", "save:one")
    let outcome = try guest.resumeOutcome("one", "--tsc-frequency", "\(UInt64.max)", "use")
    #expect(outcome.ending == .exit(1))
    #expect(outcome.standardError.contains("the guest's TSC would overflow at \(UInt64.max) Hz"))
  }

  @Test("an offset makes up for any TSC frequency", arguments: [2_000_000_000, 3_000_000_000])
  func retargetedWithOffset(hz: UInt64) throws {
    let before = try guest.run(
      "--clock",
      "offset",
      "--tsc-frequency",
      "2400000000",
      "use",
      "save:one"
    )
    let after = try guest.resume("one", "--tsc-frequency", "\(hz)", "use", "save:two")
    #expect(after[0].problems.isEmpty)
    #expect(after[0].sequence == "0x2")
    #expect(after[0].scale == Pages.scale(hz: hz))
    let saved = before[0].referenceTime
    #expect((saved...saved + 60 * 10_000_000).contains(after[0].referenceTime))

    // A guest can be saved from where it was restored to, again and again.
    let again = try guest.resume("two", "--tsc-frequency", "2400000000", "use")
    #expect(again[0].problems.isEmpty)
    #expect(again[0].sequence == "0x3")
    #expect(again[0].scale == Pages.scale(hz: 2_400_000_000))
    #expect(again[0].round == 3)
  }

  @Test("disabling a restored overlay uncovers what the guest had written before it")
  func underlayReturns() throws {
    _ = try guest.run("use", "save:one")
    let reports = try guest.resume(
      "one",
      "disable-hypercall",
      "save:two",
      "disable-reference-tsc",
      "save:three"
    )
    // The guest compares all 4096 bytes itself.
    #expect(reports.map(\.problems) == [[], []])
    #expect(reports.map(\.enabled) == [["reference-tsc"], []])
    #expect(reports[0].hypercallResult == nil)
    #expect(reports[0].sequence == "0x1")
    #expect(reports[1].clockPage == Array(repeating: Pages.beneathReferenceTSCWord, count: 3))

    let two = try tool.restored("two", in: guest.bench.directory)
    #expect(two.page(Pages.hypercallPFN) == Pages.beneathHypercall)
    #expect(two.page(Pages.referenceTSCPFN) != Pages.beneathReferenceTSC)
    let three = try tool.restored("three", in: guest.bench.directory)
    #expect(three.page(Pages.hypercallPFN) == Pages.beneathHypercall)
    #expect(three.page(Pages.referenceTSCPFN) == Pages.beneathReferenceTSC)
    #expect(try tool.json("show", "three")["overlay_count"] as? Int == 0)
    expectSuccess(try tool.verify())
  }

  @Test("overlays stacked at one page come back in order of priority")
  func stacked() throws {
    let before = try guest.run("--stacked", "--tsc-frequency", "2400000000", "use", "save:one")
    let after = try guest.resume(
      "one",
      "--tsc-frequency",
      "2000000000",
      "use",
      "disable-hypercall",
      "disable-reference-tsc"
    )
    let reports = before + after
    #expect(reports.flatMap(\.problems) == [])
    // The hypercall page lies over the clock,
    let hypercallWord = "0xc300000002c0c748"
    #expect(reports[0...1].allSatisfy { $0.clockPage == [hypercallWord, "0x0", "0x0"] })
    #expect(reports[0...1].allSatisfy { $0.hypercallResult == 2 })
    // beneath it the clock shows, for this host's TSC,
    #expect(reports[2].enabled == ["reference-tsc"])
    #expect(reports[2].clockPage == ["0x1", Pages.scale(hz: 2_000_000_000), "0x0"])
    // and at the bottom is the guest's own page.
    #expect(reports[3].clockPage == Array(repeating: Pages.beneathHypercallWord, count: 3))

    let overlays = try #require(try tool.json("show", "one")["overlays"] as? [String: Any])
    let records = try #require(overlays["overlays"] as? [[String: Any]])
    #expect(records.map { $0["pfn"] as? String } == ["0x10", "0x10"])
    #expect(
      try guest.bench.sql.run("SELECT pfn_hex || ' ' || kind FROM active_overlay")
        == "0x10 hypercall"
    )
    expectSuccess(try tool.verify())
  }

  @Test("a guest whose overlays are not rebuilt finds out: its checks can fail")
  func withoutOverlays() throws {
    _ = try guest.run("use", "save:one")
    let reports = try guest.resume("one", "--without-overlays", "use")
    #expect(reports[0].problems == ["hypercall-result", "clock"])
    #expect(reports[0].hypercallResult == 0xbad, "it called what it had written there itself")
    #expect(reports[0].sequence == Pages.beneathReferenceTSCWord)
  }
}
