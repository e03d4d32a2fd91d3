import Foundation
import Testing
import VMCheckpointTestSupport

/// A real guest's RAM at two moments.
@Suite(.serialized, .guest) struct GuestTests {
  private let bench: Workbench
  private let guest: GuestImages

  init() throws {
    guest = try GuestImages()
    bench = try Workbench()
  }

  @Test func bothMomentsComeBackByteForByteWithTheirOverlays() throws {
    // Two pages of the guest's, overlaid where QEMU with KVM's Hyper-V would.
    let (first, second) = (try readFile(guest.moments[0]), try readFile(guest.moments[1]))
    let pfns = [0x1000, 0x1001]
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":\#(pfns[0]),"variant":"return-not-supported"}"#,
        #"{"kind":"reference-tsc","pfn":\#(pfns[1]),"tsc_frequency_hz":2400000000}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    let saved = try bench.tool.json(
      "save",
      guest.moments[0],
      "--vm",
      "guest",
      "--name",
      "one",
      "--overlays",
      overlays
    )
    let again = try bench.tool.json(
      "save",
      guest.moments[1],
      "--vm",
      "guest",
      "--name",
      "two",
      "--overlays",
      overlays
    )
    #expect(saved["ram_bytes"] as? Int == guest.byteCount)
    #expect(again["parent"] as? String == "one")

    for (name, ram) in [("one", first), ("two", second)] {
      let bare = try bench.tool.restored(name, "--overlays", "omit", in: bench.directory)
      #expect(bare == ram, "\(name)")
      let shown = try bench.tool.restored(name, "--verify", in: bench.directory)
      let expected = ram.replacingPage(pfns[0], with: OverlayJSON.propolisHypercall)
        .replacingPage(
          pfns[1],
          with: OverlayJSON.tscPage(
            sequence: 1,
            scale: OverlayJSON.scale(hz: 2_400_000_000),
            offset: 0
          )
        )
      #expect(shown == expected, "\(name)")
      #expect(Data(bare).range(of: Data(guest.marker.utf8)) != nil, "no marker in \(name)")
    }

    // The second moment shares most of its pages with the first, and all compress.
    let (stored, new) = (
      try #require(again["stored_pages"] as? Int), try #require(again["new_pages"] as? Int)
    )
    #expect(new < stored / 2, "\(new) of \(stored) pages are new")
    let firstStored = try #require(saved["stored_pages"] as? Int)
    let firstBytes = try #require(saved["new_stored_bytes"] as? Int)
    #expect(firstBytes < firstStored * 4096 * 3 / 4)
    #expect(firstStored * 4096 < guest.byteCount)
    let stats = try bench.tool.json("stats")
    #expect(stats["snapshots"] as? Int ?? 2 == 2)
    expectSuccess(try bench.tool.run("verify"))
    #expect(
      try bench.sql.integer("SELECT sum(page_count) FROM chunk")
        == bench.sql.integer("SELECT count(DISTINCT digest) FROM chunk_page")
    )
  }

  /// Chunks in the order of their making would leave 2.5 % of the table's bytes unused; 1 % is usual, and
  /// it depends on what the guest happened to hold.
  @Test func chunksFillThePagesOfTheDatabase() throws {
    for (moment, name) in zip(guest.moments, ["one", "two"]) {
      try bench.tool.succeed("save", moment, "--vm", "guest", "--name", name)
    }
    try expectUnused(below: 20, "after the saves")
    try bench.tool.succeed("optimize")
    try expectUnused(below: 22, "after optimize")
  }

  private func expectUnused(below limitPermille: Int, _ moment: String) throws {
    let table = "FROM dbstat WHERE name = 'chunk_data'"
    let permille = try bench.sql.integer("SELECT 1000 * sum(unused) / sum(pgsize) \(table)")
    let pages = try bench.sql.run("SELECT pagetype, count(*), sum(unused) \(table) GROUP BY 1")
    #expect(permille < limitPermille, "\(moment): \(permille) of 1000; \(pages)")
  }

  @Test func savingTheSameMomentTwiceAddsNothing() throws {
    try bench.tool.succeed("save", guest.moments[0], "--name", "one")
    let again = try bench.tool.json(
      "save",
      "-",
      "--name",
      "two",
      "--no-parent",
      input: .file(guest.moments[0])
    )
    #expect(again["new_pages"] as? Int == 0)
    let diff = try bench.tool.json("diff", "one", "two")
    #expect(diff["identical"] as? Bool == true)
    try bench.tool.succeed("delete", "one")
    #expect(
      try bench.tool.restored("two", in: bench.directory) == readFile(guest.moments[0])
    )
  }

  @Test(arguments: ["1", "16", "1024"])
  func memoryStaysBoundedForARealGuest(threads: String) throws {
    let limit = 192 << 20
    func expectBounded(_ arguments: String...) throws {
      let takesThreads = ["save", "restore", "verify"].contains(arguments[0])
      let outcome = try bench.tool.start(
        arguments + (takesThreads ? ["--threads", threads] : [])
      ).wait()
      #expect(outcome.succeeded, "\(outcome)")
      #expect(
        outcome.maximumResidentByteCount < limit,
        "\(outcome.maximumResidentByteCount >> 20) MiB: \(arguments)"
      )
    }
    let out = bench.directory.file("out.ram")
    try expectBounded("save", guest.moments[0], "--vm", "g")
    try expectBounded("save", guest.moments[1], "--vm", "g", "--name", "two")
    try expectBounded("restore", "two", "-o", out)
    try expectBounded("diff", "two~1", "two")
    try expectBounded("verify")
    try expectBounded("delete", "two~1")
    try expectBounded("gc")
  }
}
