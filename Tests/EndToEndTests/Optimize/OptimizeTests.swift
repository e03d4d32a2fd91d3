import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt optimize` changes how pages are stored, and nothing else.
@Suite(.serialized) struct OptimizeTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Distinct pages that LZ4-HC makes smaller than LZ4 does.
  private func textPages(_ count: Int, seed: UInt64) -> [[UInt8]] {
    var generator = TestGenerator(seed: seed)
    let words = (0..<64).map { _ in
      (0..<generator.int(3...9)).map { _ in UInt8(generator.int(97...122)) }
    }
    return (0..<count).map { _ in
      var page: [UInt8] = []
      while page.count < 4096 { page += words[generator.int(0...63)] + [32] }
      return Array(page.prefix(4096))
    }
  }

  private func isOptimized() throws -> Bool {
    try bench.sql.integer("SELECT count(*) FROM chunk WHERE optimized = 0") == 0
  }

  @Test(.slow) func everySnapshotStaysWhatItWas() throws {
    var generator = TestGenerator(seed: 1)
    let contents = OverlayJSON.base64(generator.compressiblePage())
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":40,"variant":"vmcall"}"#,
        #"{"kind":"synic-message","vp":0,"pfn":41,"contents":"\#(contents)","underlay":"zero"}"#
      )
    )
    var snapshots: [(name: String, ram: [UInt8])] = []
    let pages = textPages(900, seed: 2)
    for (number, setting) in ["none", "fast", "default", "high"].enumerated() {
      let ram =
        sampleRAM(500, seed: UInt64(number)) + pages[(number * 100)...].flatMap { $0 }
        + sampleRAM(300, seed: 9)
      let name = "s\(number)"
      let vm = "vm\(number % 2)"
      try bench.save(name, ram, "--compression", setting, "--vm", vm, "--overlays", overlays)
      snapshots.append((name, try bench.restore(name)))
    }
    func shown() throws -> [String] {
      try snapshots.map { try bench.tool.run("show", $0.name, "--json").text }
    }
    let before = try shown()
    let bareBefore = try snapshots.map {
      try bench.tool.restored($0.name, "--overlays", "omit", in: bench.directory)
    }
    let result = try bench.tool.json("optimize")
    #expect(result["unreadable_chunks"] as? Int == 0)
    let (storedBefore, storedAfter) = (
      result["stored_bytes_before"] as? Int ?? 0, result["stored_bytes_after"] as? Int ?? 0
    )
    #expect(storedAfter > 0 && storedAfter < storedBefore)
    #expect(try bench.sql.integer("SELECT sum(stored_bytes) FROM chunk") == storedAfter)
    #expect(result["file_bytes_after"] as? Int == Int(try fileSize(bench.storePath).byteCount))
    #expect(try shown() == before)
    for (index, snapshot) in snapshots.enumerated() {
      let bare = try bench.tool.restored(snapshot.name, "--overlays", "omit", in: bench.directory)
      #expect(bare == bareBefore[index], "\(snapshot.name)")
    }
    #expect(try isOptimized())
    #expect(try bench.sql.run("PRAGMA foreign_key_check") == "")
    try expectSound(bench, snapshots, "after an optimize")
  }

  @Test func theSecondRunDoesNothing() throws {
    let ram = textPages(700, seed: 3).flatMap { $0 }
    try bench.save("a", ram)
    try bench.tool.succeed("optimize")
    let before = try readFile(bench.storePath)
    let result = try bench.tool.json("optimize")
    #expect(result["rewritten_chunks"] as? Int == 0)
    #expect(try readFile(bench.storePath) == before)
    // And a run after a save makes anew what that save added.
    try bench.save("b", ram + textPages(160, seed: 4).flatMap { $0 })
    #expect(try bench.tool.json("optimize")["rewritten_chunks"] as? Int == 10)
    #expect(try isOptimized())
  }

  /// Both by the same rule, so that optimize and gc do not work against each other.
  @Test func aCollectionFindsNothingToDoAfterwards() throws {
    let pages = textPages(800, seed: 5)
    try bench.save("a", pages.flatMap { $0 })
    try bench.save("b", stride(from: 0, to: 800, by: 3).flatMap { pages[$0] })
    try bench.tool.succeed("delete", "a")
    let result = try bench.tool.json("optimize")
    #expect(result["dropped_pages"] as? Int == 800 - 267)
    let (stored, named) = try bench.sql.pageCounts()
    #expect(stored == 267 && named == 267)
    let collected = try bench.tool.json("gc")
    #expect(collected["repacked_chunks"] as? Int == 0)
    #expect(collected["freed_chunks"] as? Int == 0)
    #expect(try bench.sql.integer("PRAGMA freelist_count") == 0)
  }

  /// Deleting snapshots later leaves holes in chunks that are optimized already.
  @Test func chunksThatLoseTheirPagesLaterAreMadeAnew() throws {
    let pages = textPages(800, seed: 6)
    try bench.save("a", pages.flatMap { $0 })
    try bench.save("b", stride(from: 0, to: 800, by: 2).flatMap { pages[$0] }, "--vm", "other")
    try bench.tool.succeed("optimize")
    try bench.tool.succeed("delete", "a")
    try bench.tool.succeed("optimize")
    let (stored, named) = try bench.sql.pageCounts()
    #expect(stored == 400 && named == 400)
    #expect(try bench.tool.json("optimize")["rewritten_chunks"] as? Int == 0)
  }

  /// The newest snapshot of a VM is what is restored: its pages come first, in the order of PFNs.
  @Test func theNewestSnapshotIsStoredInTheOrderOfItsPages() throws {
    let pages = textPages(1200, seed: 7)
    try bench.save("old", pages[..<1000].flatMap { $0 })
    // Other places, and every tenth page is new.
    var newest = Array(pages[..<1000].reversed())
    for index in stride(from: 0, to: 1000, by: 10) { newest[index] = pages[1000 + index / 10] }
    try bench.save("new", newest.flatMap { $0 }, "--vm", "old")
    try bench.tool.succeed("optimize")
    // But for the few chunks among which the one is chosen that fits the database's pages.
    let outOfOrder = """
      SELECT count(*) FROM (
        SELECT row_number() OVER (ORDER BY pfn) - 1 AS rank, slot,
          chunk_id - min(chunk_id) OVER () AS place
          FROM stored_page WHERE snapshot = 'new')
       WHERE slot <> rank % 16 OR abs(place - rank / 16) > 32
      """
    #expect(try bench.sql.integer(outOfOrder) == 0)
    // 1000 pages in chunks of 16.
    #expect(
      try bench.sql.integer(
        """
        SELECT count(*) FROM ram_extent e JOIN snapshot s ON s.id = e.snapshot_id
         WHERE s.name = 'new'
        """
      ) == 63
    )
  }

  @Test(.slow) func othersGoOnMeanwhile() throws {
    let pages = textPages(8000, seed: 8)
    let (base, ram) = (pages[..<4000].flatMap { $0 }, pages.flatMap { $0 })
    try bench.save("base", base)
    let source = try bench.write("more.ram", ram)
    let optimize = try bench.tool.start(["optimize", "--threads", "1"])
    let save = try bench.tool.start(["save", source, "--name", "more"])
    var reads = 0
    while optimize.isRunning || save.isRunning {
      expectSuccess(try bench.tool.run("list"))
      #expect(
        try bench.sql.integer("SELECT count(*) FROM stored_page WHERE snapshot = 'base'") == 4000
      )
      #expect(try bench.restore("base") == base)
      expectSuccess(try bench.tool.run("verify"))
      reads += 1
    }
    #expect(reads > 0)
    expectSuccess(try optimize.wait())
    expectSuccess(try save.wait())
    try expectSound(bench, [("base", base), ("more", ram)], "after an optimize beside others")
  }

  /// A damaged page must not be stored anew as if it were a good one, nor end the run for the others.
  @Test func aDamagedChunkStaysForVerifyToTell() throws {
    let (bad, good) = (textPages(320, seed: 9), textPages(320, seed: 10))
    try bench.save("bad", bad.flatMap { $0 })
    try bench.save("good", good.flatMap { $0 }, "--vm", "good")
    let damaged = try bench.sql.integer(
      "SELECT chunk_id FROM stored_page WHERE snapshot = 'bad' AND pfn = 100"
    )
    try bench.sql.run(
      """
      UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = \(damaged)
      """
    )
    let result = try bench.tool.json("optimize")
    #expect(result["unreadable_chunks"] as? Int == 1)
    #expect(
      try bench.sql.integer("SELECT count(*) FROM chunk WHERE optimized = 0 AND id = \(damaged)")
        == 1
    )
    let verify = try bench.tool.run("verify", "--json")
    #expect(verify.ending == .exit(65))
    #expect(try verify.jsonObject()["damaged_snapshots"] as? [String] == ["bad"])
    #expect(try bench.restore("good") == good.flatMap { $0 })
  }

  /// The frame is whole, and a page in it is not the one that its digest says.
  @Test func aPageWithAnotherDigestIsNotStoredAnew() throws {
    try bench.save("a", textPages(64, seed: 11).flatMap { $0 })
    try bench.sql.run(
      """
      UPDATE chunk SET digests = CAST(zeroblob(32) || substr(digests, 33) AS BLOB)
       WHERE id = (SELECT min(id) FROM chunk)
      """
    )
    let result = try bench.tool.json("optimize")
    #expect(result["unreadable_chunks"] as? Int == 1)
    #expect(result["new_chunks"] as? Int == 3)
    #expect(try bench.tool.run("verify").ending == .exit(65))
    #expect(try bench.sql.run("PRAGMA foreign_key_check") == "")
  }

  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aFullFileSystemEndsItBeforeItBegins() throws {
    let fileSystem = try SmallFileSystem()
    let bench = try Workbench(in: fileSystem.path)
    let source = try TemporaryDirectory()
    let ram = incompressibleRAM(400, seed: 12)
    try writeFile(source.file("a.ram"), ram)
    try bench.tool.succeed("save", source.file("a.ram"), "--name", "a")
    let outcome = try bench.tool.run("optimize")
    #expect(outcome.ending == .exit(74))
    #expect(
      outcome.standardError.hasPrefix(
        "vmckpt: not enough space to optimize store \"\(bench.storePath)\": it needs at least "
      )
    )
    #expect(
      outcome.standardError.hasSuffix("; free some space and try again; vmckpt gc needs less\n")
    )
    try expectSound(bench, [("a", ram)], "after a refusal")
  }

  @Test func withoutAStoreThereIsNothingToOptimize() throws {
    #expect(try bench.tool.run("optimize").ending == .exit(66))
    #expect(!exists(bench.storePath))
  }

  /// Some network file systems say that they have as much space as a number can hold.
  @Test(.slow, arguments: [UInt64(1) << 51 - 1, 1 << 51, .max])
  func spaceWithoutEndIsEnough(freeBlockCount: UInt64) throws {
    let faults = try FaultLibrary()
    let ram = textPages(300, seed: 5).flatMap { $0 }
    try bench.save("a", ram)
    try bench.save("b", incompressibleRAM(300))
    // Pages of the file that are free come on top.
    try bench.tool.succeed("delete", "b")
    #expect(try bench.sql.integer("PRAGMA freelist_count") > 0)
    let outcome = try run(
      bench.tool.commandLine(["optimize"]),
      environment: faults.environment(freeBlockCount: freeBlockCount)
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try isOptimized())
    try expectSound(bench, [("a", ram)], "after an optimize")
  }
}
