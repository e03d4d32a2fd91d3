import Foundation
import Testing
import VMCheckpointTestSupport

/// Processes that use one store together.
@Suite(.serialized) struct ConcurrencyTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test(.slow) func savesThatComeTogetherStoreEachPageOnce() throws {
    let ram = sampleRAM(6000)
    let source = try bench.write("ram", ram)
    try bench.save("base", sampleRAM(4, seed: 9))
    let children = try ["a", "b", "c"].map {
      try bench.tool.start(["save", source, "--name", $0, "--wait", "600"])
    }
    for child in children { expectSuccess(try child.wait()) }
    #expect(try Set(bench.tool.snapshotNames()) == ["base", "a", "b", "c"])
    #expect(
      try bench.sql.integer("SELECT sum(page_count) FROM chunk")
        == bench.sql.integer("SELECT count(DISTINCT digest) FROM chunk_page")
    )
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot WHERE new_pages > 4") == 1)
    for name in ["a", "b", "c"] { #expect(try bench.restore(name) == ram) }
  }

  @Test(.slow) func processesThatCreateAStoreTogetherMakeOne() throws {
    let source = try bench.write("ram", sampleRAM(50))
    for round in 0..<8 {
      let fresh = try Workbench()
      let children = try (0..<4).map {
        try fresh.tool.start(["save", source, "--name", "s\($0)", "--wait", "600"])
      }
      for child in children {
        let outcome = try child.wait()
        #expect(outcome.succeeded, "round \(round): \(outcome)")
      }
      #expect(try fresh.tool.snapshotNames().sorted() == ["s0", "s1", "s2", "s3"])
      #expect(try fresh.sql.integer("SELECT count(*) FROM store") == 1)
    }
  }

  @Test(.slow) func readersNeverFailWhileASaveRuns() throws {
    try bench.save("base", sampleRAM(200))
    let source = try bench.write("ram", sampleRAM(30_000, seed: 2))
    let faults = try FaultLibrary()
    let child = try ChildProcess(
      bench.tool.commandLine(["save", source, "--name", "large"]),
      environment: faults.environment(stopsAtStoreOffset: 8 << 20)
    )
    let commands = [["list"], ["stats"], ["show", "base"]]
    // Whoever is kept out by one that does not end waits his minute, and fails.
    try child.waitUntilItIsStopped()
    for command in commands {
      let outcome = try bench.tool.start(command).wait()
      expectSuccess(outcome)
      #expect(outcome.durationSeconds < 55)
    }
    child.send(SIGCONT)
    var reads = 0
    while child.isRunning {
      expectSuccess(try bench.tool.start(commands[reads % 3]).wait())
      reads += 1
      usleep(3000)
    }
    expectSuccess(try child.wait())
  }

  @Test(.slow) func restoresAndVerifiesRunBesideASave() throws {
    let base = sampleRAM(4000)
    try bench.save("base", base)
    let source = try bench.write("ram", sampleRAM(30_000, seed: 2))
    let child = try bench.tool.start(["save", source, "--name", "large"])
    repeat {
      #expect(try bench.restore("base") == base)
      expectSuccess(try bench.tool.run("verify"))
    } while child.isRunning
    expectSuccess(try child.wait())
  }

  /// The restore holds its chunks: its output is a pipe that nobody reads for a while.
  @Test(.slow) func collectionsDoNotTakeChunksFromUnderARestore() throws {
    let (victim, base) = (sampleRAM(6000), sampleRAM(500, seed: 2))
    try bench.save("victim", victim)
    try bench.save("base", base)
    let pipe = try ChildPipe()
    let restore = try bench.tool.start(
      ["restore", "base", "-o", "-"],
      outputDescriptor: pipe.writerForChild
    )
    let first = try pipe.read(upTo: 4096)
    // The rows go at once, the chunks stay until the restore has ended.
    let delete = try bench.tool.json("delete", "victim")
    #expect(delete["collected"] is NSNull || delete["collected"] == nil, "\(delete)")
    let collection = try bench.tool.start(["gc", "--json", "--wait", "600"])
    try collection.waitUntilItWaits(for: .lock(bench.storePath + "-lock"))
    #expect(try bench.tool.snapshotNames() == ["base"])
    pipe.closeWriter()
    #expect(try first + pipe.readToEnd() == base)
    #expect(try restore.wait().succeeded)
    let collected = try collection.wait()
    #expect(collected.succeeded, "\(collected)")
    #expect((try collected.jsonObject()["freed_chunks"] as? Int ?? 0) > 0)
    try expectSound(bench, [("base", base)], "after a collection beside a restore")
  }

  @Test(.slow) func aDeleteWhileChunksAreRepackedIsNotLost() throws {
    var generator = TestGenerator(seed: 4)
    let pages = (0..<4000).map { _ in generator.incompressiblePage() }
    let sparse = stride(from: 0, to: 4000, by: 8).flatMap { pages[$0] }
    for round in 0..<6 {
      try bench.save("all", Array(pages.joined()))
      try bench.save("keep", sparse)
      try bench.save("drop", sparse.reversedPages)
      // As a delete leaves it that could not free chunks.
      try bench.sql.run("PRAGMA foreign_keys = ON; DELETE FROM snapshot WHERE name = 'all'")
      let collection = try bench.tool.start(["gc"])
      usleep(UInt32(round * 12_000))
      let deletion = try bench.tool.run("delete", "drop", "--wait", "600")
      #expect(deletion.succeeded, "round \(round): \(deletion)")
      let collected = try collection.wait()
      #expect(collected.succeeded, "round \(round): \(collected)")
      try expectSound(bench, [("keep", sparse)], "round \(round)")
      try bench.tool.succeed("delete", "keep")
    }
  }

  /// The source is a pipe that gives nothing for a while.
  @Test func aSaveThatWaitsForItsSourceKeepsNobodyFromWriting() throws {
    try bench.save("a", sampleRAM(300))
    let ram = sampleRAM(3000, seed: 5)
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "slow", "--no-parent"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(Array(ram.prefix(2000 * 4096)))
    // All of that is saved, and the rest is not there yet.
    try save.waitUntilItWaits(for: .descriptor)
    let tag = try bench.tool.run("tag", "a", "k=v")
    expectSuccess(tag)
    #expect(tag.durationSeconds < 55)
    let delete = try bench.tool.run("delete", "a")
    #expect(delete.succeeded, "\(delete)")
    #expect(delete.durationSeconds < 55)
    #expect(save.isRunning)
    try pipe.write(Array(ram.dropFirst(2000 * 4096)))
    pipe.closeWriter()
    let saved = try save.wait()
    #expect(saved.succeeded, "\(saved)")
    try expectSound(bench, [("slow", ram)], "after a delete beside a save that waited")
  }

  @Test(.slow) func aTagOrDeleteWhileASaveRunsIsNotLost() throws {
    try bench.save("a", sampleRAM(3000))
    try bench.save("b", sampleRAM(3000, seed: 2))
    let ram = sampleRAM(30_000, seed: 3)
    let source = try bench.write("ram", ram)
    let child = try bench.tool.start(["save", source, "--name", "large", "--parent", "a"])
    try waitUntil("the save has begun") {
      try !child.isRunning
        || bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    expectSuccess(try bench.tool.run("tag", "b", "k=v", "--wait", "600"))
    expectSuccess(try bench.tool.run("delete", "a", "--wait", "600"))
    // It warns that RAM has another size than its parent's.
    let saved = try child.wait()
    #expect(saved.succeeded, "\(saved)")
    #expect(try bench.sql.run("SELECT tags FROM snapshot_summary WHERE name = 'b'") == "k=v")
    try expectSound(
      bench,
      [("b", sampleRAM(3000, seed: 2)), ("large", ram)],
      "after a delete beside a save"
    )
  }
}

extension [UInt8] {
  /// The same pages, the last first.
  fileprivate var reversedPages: [UInt8] {
    stride(from: count - 4096, through: 0, by: -4096).flatMap { self[$0..<($0 + 4096)] }
  }
}
