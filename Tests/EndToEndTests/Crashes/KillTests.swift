import Glibc
import Testing
import VMCheckpointTestSupport

/// `kill -9` at any moment leaves a store that opens, verifies, has every complete snapshot, and
/// after a gc nothing else.
@Suite(.serialized, .slow) struct KillTests {
  private static let rounds = soakRounds(30)
  private static let pageCount = 16_384

  private let bench: Workbench
  private let base = sampleRAM(pageCount / 4)

  init() throws {
    bench = try Workbench()
    try bench.save("base", base)
  }

  /// Kills `arguments` after delays spread over the time that they take, `prepare`d each time.
  ///
  /// - Returns: How often the process was still running.
  private func killRepeatedly(
    _ arguments: [String],
    seed: UInt64,
    prepare: () throws -> Void,
    check: (_ wasKilled: Bool, _ round: Int) throws -> Void
  ) throws -> Int {
    var generator = TestGenerator(seed: seed)
    try prepare()
    let full = try bench.tool.start(arguments).wait()
    #expect(full.succeeded, "\(full)")
    try check(false, -1)
    // The shortest of the complete runs: other tests run at the same time.
    var durationSeconds = full.durationSeconds
    var killed = 0
    for round in 0..<Self.rounds {
      try prepare()
      let child = try bench.tool.start(arguments)
      let share =
        (Double(round) + Double.random(in: 0..<1, using: &generator)) / Double(Self.rounds)
      usleep(UInt32(durationSeconds * 1.1 * share * 1e6))
      child.send(SIGKILL)
      let outcome = try child.wait()
      let wasKilled = outcome.ending == .signal(SIGKILL)
      #expect(wasKilled || outcome.succeeded, "round \(round): \(outcome)")
      if wasKilled {
        killed += 1
      } else {
        durationSeconds = min(durationSeconds, outcome.durationSeconds)
      }
      try check(wasKilled, round)
    }
    return killed
  }

  /// What holds at once, before a gc.
  private func expectSoundNow(_ round: Int) throws {
    let outcome = try bench.tool.verify()
    #expect(outcome.succeeded, "round \(round): \(outcome)")
    #expect(try bench.sql.run("PRAGMA integrity_check") == "ok", "round \(round)")
  }

  @Test func aKilledSaveDoesNoHarm() throws {
    let ram = incompressibleRAM(Self.pageCount, seed: 2)
    let source = try bench.write("ram", ram)
    let killed = try killRepeatedly(
      ["save", source, "--name", "victim", "--vm", "base"],
      seed: 1,
      prepare: {
        if try bench.tool.snapshotNames().contains("victim") {
          try bench.tool.succeed("delete", "victim")
        }
      },
      check: { wasKilled, round in
        try expectSoundNow(round)
        let names = try bench.tool.snapshotNames()
        #expect(names == ["base"] || names == ["base", "victim"], "round \(round): \(names)")
        #expect(wasKilled || names == ["base", "victim"], "round \(round)")
        // A third of the rounds go on from what the last one left.
        guard round % 3 != 1 else { return }
        let isComplete = names.count == 2
        try expectSound(
          bench,
          [("base", base)] + (isComplete ? [("victim", ram)] : []),
          "round \(round)"
        )
      }
    )
    #expect(killed >= Self.rounds / 6, "only \(killed) of \(Self.rounds) were killed")
  }

  @Test func aKilledDeleteDoesNoHarm() throws {
    let ram = incompressibleRAM(Self.pageCount, seed: 3)
    let source = try bench.write("ram", ram)
    let killed = try killRepeatedly(
      ["delete", "victim"],
      seed: 2,
      prepare: {
        if try !bench.tool.snapshotNames().contains("victim") {
          try bench.tool.succeed("save", source, "--name", "victim", "--vm", "base")
        }
      },
      check: { wasKilled, round in
        try expectSoundNow(round)
        let isThere = try bench.tool.snapshotNames() == ["base", "victim"]
        #expect(wasKilled || !isThere, "round \(round)")
        guard round % 3 != 1 else { return }
        try expectSound(
          bench,
          [("base", base)] + (isThere ? [("victim", ram)] : []),
          "round \(round)"
        )
      }
    )
    #expect(killed >= Self.rounds / 6, "only \(killed) of \(Self.rounds) were killed")
  }

  /// What a killed save or delete leaves names chunks that the next delete frees.
  @Test func aDeleteAfterAKilledOneLeavesNoRowWithoutItsChunk() throws {
    let (first, second) = (sampleRAM(900, seed: 7), sampleRAM(700, seed: 8))
    try bench.save("killed", first)
    try bench.save("victim", second)
    // As a delete is killed between its first transaction and its second.
    try bench.sql.run("UPDATE snapshot SET state = 'writing' WHERE name = 'killed'")
    let deletion = try bench.tool.json("delete", "victim")
    let collected = try #require(deletion["collected"] as? [String: Any])
    #expect(collected["unfinished_snapshots"] as? Int == 1)
    expectSuccess(try bench.tool.verify())
    #expect(try bench.sql.run("PRAGMA foreign_key_check") == "")
    try expectSound(bench, [("base", base)], "after a delete beside what a killed one left")
  }

  @Test func aKilledCollectionDoesNoHarm() throws {
    // Every eighth page of the victim is the survivor's too, so that chunks are repacked.
    var generator = TestGenerator(seed: 4)
    let ram = (0..<(Self.pageCount / 4)).flatMap { _ in generator.compressiblePage() }
    let survivor = stride(from: 0, to: Self.pageCount / 4, by: 8).flatMap { index in
      ram[(index * 4096)..<((index + 1) * 4096)]
    }
    let source = try bench.write("ram", ram)
    let survivorSource = try bench.write("survivor", survivor)
    let killed = try killRepeatedly(
      ["gc"],
      seed: 3,
      prepare: {
        if try bench.tool.snapshotNames().contains("survivor") {
          try bench.tool.succeed("delete", "survivor")
        }
        try bench.tool.succeed("gc")
        try bench.tool.succeed("save", source, "--name", "victim", "--vm", "base")
        try bench.tool.succeed("save", survivorSource, "--name", "survivor", "--vm", "base")
        // As a delete that could not free chunks leaves it.
        try bench.sql.run(
          "PRAGMA foreign_keys = ON; DELETE FROM snapshot WHERE name = 'victim'"
        )
      },
      check: { _, round in
        try expectSoundNow(round)
        guard round % 3 != 1 else { return }
        try expectSound(bench, [("base", base), ("survivor", survivor)], "round \(round)")
      }
    )
    #expect(killed >= Self.rounds / 6, "only \(killed) of \(Self.rounds) were killed")
  }

  /// A round's copies may be named by some extents and not yet by others.
  @Test func aKilledOptimizeDoesNoHarmAndTheNextGoesOn() throws {
    var generator = TestGenerator(seed: 6)
    // Much to write, and much to compress.
    let pages = (0..<6000).map { index in
      index % 3 == 0 ? generator.compressiblePage() : generator.incompressiblePage()
    }
    var snapshots = [("base", base)]
    for number in 0..<4 {
      // Each without some pages that the one before has, and at other places.
      let ram = pages[(number * 500)..<(4000 + number * 500)].flatMap { $0 }
      try bench.save("s\(number)", ram, "--vm", "vm\(number % 2)")
      snapshots.append(("s\(number)", ram))
    }
    // A chunk with dead pages.
    try bench.tool.succeed("delete", "s1")
    snapshots.remove(at: 2)
    let pristine = try readFile(bench.storePath)
    let killed = try killRepeatedly(
      ["optimize"],
      seed: 5,
      prepare: {
        unlink(bench.storePath + "-journal")
        try writeFile(bench.storePath, pristine)
      },
      check: { wasKilled, round in
        try expectSoundNow(round)
        guard round % 3 != 1 else { return }
        // A save in between may name old copies and new ones.
        if round % 2 == 0 {
          try bench.save("later", snapshots[2].1, "--vm", "later")
        }
        let again = try bench.tool.json("optimize")
        #expect(wasKilled || again["rewritten_chunks"] as? Int == 0, "round \(round)")
        #expect(
          try bench.sql.integer("SELECT count(*) FROM chunk WHERE optimized = 0") == 0,
          "round \(round)"
        )
        // No page twice, and none that nobody names.
        let (stored, named) = try bench.sql.pageCounts()
        #expect(stored == named, "round \(round): \(stored) pages are stored, \(named) named")
        let later = round % 2 == 0 ? [("later", snapshots[2].1)] : []
        try expectSound(bench, snapshots + later, "round \(round)")
      }
    )
    #expect(killed >= Self.rounds / 6, "only \(killed) of \(Self.rounds) were killed")
  }

  /// The first save makes the store; killed there, the next save must not find a stranger's file.
  @Test func aStoreWhoseMakerIsKilledCanStillBeMade() throws {
    var generator = TestGenerator(seed: 5)
    let ram = sampleRAM(16)
    let source = try bench.write("ram", ram)
    for round in 0..<Self.rounds {
      let fresh = try Workbench()
      let child = try fresh.tool.start(["save", source, "--name", "a"])
      usleep(UInt32(generator.int(0...40_000)))
      child.send(SIGKILL)
      _ = try child.wait()
      let list = try fresh.tool.run("list")
      let isThere = exists(fresh.storePath)
      #expect(list.ending == .exit(isThere ? 0 : 66), "round \(round): \(list)")
      if isThere { #expect(try fresh.tool.verify().succeeded, "round \(round)") }
      let again = try fresh.tool.run("save", source, "--name", "b")
      #expect(again.succeeded, "round \(round): \(again)")
      #expect(try fresh.restore("b") == ram)
      #expect(try fresh.tool.verify().succeeded)
    }
  }
}
