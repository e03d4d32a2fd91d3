import Glibc
import Testing
import VMCheckpointTestSupport

/// Ctrl-C and SIGTERM end an operation by the signal and leave nothing behind.
@Suite(.serialized) struct SignalTests {
  private static let rounds = soakRounds(16)
  /// A command that does not see its signal waits for another's lock for a minute.
  private static let lessThanAWaitSeconds = 50.0
  private let bench: Workbench
  private let base = sampleRAM(2000)

  init() throws {
    bench = try Workbench()
    try bench.save("base", base)
  }

  /// Sends `signal` after delays spread over `durationSeconds`, which becomes the shortest of the
  /// complete runs: other tests run at the same time.
  private func interrupt(
    _ arguments: [String],
    _ signal: Int32,
    durationSeconds: inout Double,
    round: Int,
    using generator: inout TestGenerator
  ) throws -> ProcessOutcome {
    let child = try bench.tool.start(arguments)
    let share = (Double(round) + Double.random(in: 0..<1, using: &generator)) / Double(Self.rounds)
    usleep(UInt32(durationSeconds * 1.05 * share * 1e6))
    child.send(signal)
    let outcome = try child.wait()
    if outcome.succeeded { durationSeconds = min(durationSeconds, outcome.durationSeconds) }
    return outcome
  }

  @Test(.slow, arguments: [SIGINT, SIGTERM])
  func anInterruptedSaveLeavesNothing(signal: Int32) throws {
    var generator = TestGenerator(seed: UInt64(signal))
    let ram = incompressibleRAM(14_000, seed: 2)
    let source = try bench.write("ram", ram)
    let full = try bench.tool.succeed("save", source, "--name", "victim")
    var durationSeconds = full.durationSeconds
    try bench.tool.succeed("delete", "victim")
    try bench.tool.succeed("gc")
    let entries = bench.directory.entries
    var interrupted = 0
    for round in 0..<Self.rounds {
      let outcome = try interrupt(
        ["save", source, "--name", "victim"],
        signal,
        durationSeconds: &durationSeconds,
        round: round,
        using: &generator
      )
      #expect(bench.directory.entries == entries)
      if outcome.succeeded {
        try bench.tool.succeed("delete", "victim")
        try bench.tool.succeed("gc")
        continue
      }
      interrupted += 1
      #expect(outcome.ending == .signal(signal), "round \(round): \(outcome)")
      // Before the operation began the signal has its default action, and nothing is said.
      #expect(
        ["vmckpt: interrupted\n", ""].contains(outcome.standardError),
        "round \(round)"
      )
      let counts = try bench.sql.run(
        "SELECT count(*), sum(state = 'complete') FROM snapshot"
      )
      if counts == "2|2", outcome.standardError.isEmpty {
        // Nor is anything said when it had ended: the snapshot is there, and the process was about to go.
        try bench.tool.succeed("delete", "victim")
        try bench.tool.succeed("gc")
        continue
      }
      #expect(counts == "1|1", "round \(round)")
      let (stored, named) = try bench.sql.pageCounts()
      #expect(stored == named, "round \(round): \(stored) pages are stored, \(named) named")
      #expect(try bench.tool.verify().succeeded, "round \(round)")
    }
    #expect(interrupted >= Self.rounds / 6, "only \(interrupted) of \(Self.rounds)")
    try expectSound(bench, [("base", base)], "after all")
  }

  @Test(.slow) func anInterruptedRestoreLeavesTheOldTargetAndNoTemporaryFile() throws {
    var generator = TestGenerator(seed: 3)
    let ram = sampleRAM(20_000, seed: 3)
    try bench.save("large", ram)
    let target = try bench.write("target", "old")
    let out = try bench.write("out.json", "old")
    let arguments = ["restore", "large", "-o", target, "--overlays-out", out, "--force"]
    let full = try bench.tool.start(arguments).wait()
    #expect(full.succeeded, "\(full)")
    var durationSeconds = full.durationSeconds
    var interrupted = 0
    for round in 0..<Self.rounds {
      try writeFile(target, "old")
      try writeFile(out, "old")
      let entries = bench.directory.entries
      let outcome = try interrupt(
        arguments,
        [SIGINT, SIGTERM][round % 2],
        durationSeconds: &durationSeconds,
        round: round,
        using: &generator
      )
      #expect(bench.directory.entries == entries, "round \(round)")
      if outcome.succeeded {
        #expect(try readFile(target) == ram, "round \(round)")
        continue
      }
      interrupted += 1
      #expect(outcome.ending == .signal([SIGINT, SIGTERM][round % 2]), "round \(round)")
      // When the operation has ended a signal has its default action again, and nothing is said.
      if outcome.standardError.isEmpty, try readFile(target) == ram { continue }
      #expect(try readFile(target) == Array("old".utf8), "round \(round)")
      #expect(try readFile(out) == Array("old".utf8), "round \(round)")
    }
    #expect(interrupted >= Self.rounds / 6, "only \(interrupted) of \(Self.rounds)")
  }

  @Test(.slow, arguments: [["gc"], ["delete", "victim"], ["verify"], ["optimize"]])
  func anInterruptedOperationLeavesASoundStore(arguments: [String]) throws {
    var generator = TestGenerator(seed: 4)
    let ram = incompressibleRAM(8000, seed: 4)
    let source = try bench.write("ram", ram)
    func prepare() throws {
      if try !bench.tool.snapshotNames().contains("victim") {
        try bench.tool.succeed("save", source, "--name", "victim")
      }
      guard arguments == ["gc"] else { return }
      try bench.sql.run("PRAGMA foreign_keys = ON; DELETE FROM snapshot WHERE name = 'victim'")
    }
    try prepare()
    var durationSeconds = try bench.tool.start(arguments).wait().durationSeconds
    for round in 0..<(Self.rounds / 2) {
      try prepare()
      let outcome = try interrupt(
        arguments,
        SIGTERM,
        durationSeconds: &durationSeconds,
        round: round * 2,
        using: &generator
      )
      #expect(outcome.succeeded || outcome.ending == .signal(SIGTERM), "round \(round): \(outcome)")
      let isThere = try bench.tool.snapshotNames().contains("victim")
      try expectSound(
        bench,
        [("base", base)] + (isThere ? [("victim", ram)] : []),
        "round \(round)"
      )
    }
  }

  /// A save from a pipe waits for input that may never come.
  @Test(.slow, arguments: [SIGINT, SIGTERM])
  func aSaveThatWaitsForInputCanBeInterrupted(signal: Int32) throws {
    let pipe = try ChildPipe()
    let child = try bench.tool.start(["save", "-", "--name", "x"], input: .descriptor(pipe.reader))
    try pipe.write(sampleRAM(10))
    try waitUntil("the save has begun") {
      try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    child.send(signal)
    let outcome = try child.wait()
    #expect(outcome.ending == .signal(signal), "\(outcome)")
    try expectSound(bench, [("base", base)], "after an interrupted pipe")
  }

  /// The clean-up meets the lock that the save waited for, and would wait its minute for it.
  @Test(arguments: [0, 200]) func aSaveThatMeetsABusyStoreEndsAtTheFirstSignal(
    pageCountMeanwhile: Int
  ) throws {
    let (pipe, ram) = (try ChildPipe(), sampleRAM(1200, seed: 3))
    let child = try bench.tool.start(["save", "-", "--name", "x"], input: .descriptor(pipe.reader))
    try pipe.write(Array(ram.prefix(1000 * 4096)))
    try child.waitUntilItWaits(for: .descriptor)
    let holder = try StoreReader(bench.storePath, isExclusive: true)
    if pageCountMeanwhile > 0 {
      try pipe.write(Array(ram.dropFirst(1000 * 4096).prefix(pageCountMeanwhile * 4096)))
      pipe.closeWriter()
      try child.waitUntilItWaits(for: .lock(bench.storePath))
    }
    child.send(SIGINT)
    let outcome = try child.wait(timeoutSeconds: Self.lessThanAWaitSeconds)
    #expect(outcome.ending == .signal(SIGINT), "\(outcome)")
    #expect(outcome.standardError == "vmckpt: interrupted\n")
    try holder.end()
    try bench.tool.succeed("gc")
    try expectSound(bench, [("base", base)], "after a save that was interrupted in a busy store")
  }

  /// A restore into a pipe waits for a reader that may never come.
  @Test(.slow, arguments: [SIGINT, SIGTERM, SIGHUP])
  func aRestoreThatNobodyReadsEndsAtTheFirstSignal(signal: Int32) throws {
    let pipe = try ChildPipe()
    let child = try bench.tool.start(
      ["restore", "base", "-o", "-"],
      outputDescriptor: pipe.writerForChild
    )
    try waitUntil("the pipe is full") { pipe.waitingByteCount >= 64 << 10 }
    try child.waitUntilItWaits(for: .descriptor)
    child.send(signal)
    let outcome = try child.wait()
    #expect(outcome.ending == .signal(signal), "\(outcome)")
    #expect(outcome.standardError == "vmckpt: interrupted\n")
  }

  /// Nor may a process that shares the pipe find it changed.
  @Test func aRestoreLeavesItsPipeAsItWas() throws {
    let pipe = try ChildPipe()
    let child = try bench.tool.start(
      ["restore", "base", "-o", "-"],
      outputDescriptor: pipe.writerForChild
    )
    var ram: [UInt8] = []
    while ram.count < base.count {
      ram += try pipe.read(upTo: 64 << 10)
      #expect(fcntl(pipe.writerForChild, F_GETFL) & O_NONBLOCK == 0)
    }
    #expect(try child.wait().succeeded)
    #expect(ram == base)
  }

  @Test func aSaveThatWaitsForAnotherCanBeInterrupted() throws {
    let pipe = try ChildPipe()
    let holder = try bench.tool.start(
      ["save", "-", "--name", "x"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(base)
    try waitUntil("the save has begun") {
      try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    for arguments in [["save", try bench.write("ram", base), "--name", "y"], ["gc"]] {
      let child = try bench.tool.start(arguments)
      try child.waitUntilItWaits(for: .lock(bench.storePath + "-lock"))
      child.send(SIGINT)
      let outcome = try child.wait(timeoutSeconds: Self.lessThanAWaitSeconds)
      #expect(outcome.ending == .signal(SIGINT), "\(outcome)")
      #expect(outcome.standardError == "vmckpt: interrupted\n")
    }
    pipe.closeWriter()
    #expect(try holder.wait().succeeded)
    try expectSound(bench, [("base", base), ("x", base)], "after interrupted waits")
  }

  /// Another program has the store for itself, for an hour perhaps.
  @Test func aCommandThatWaitsForABusyStoreEndsAtTheFirstSignal() throws {
    let source = try bench.write("ram", base)
    let holder = try StoreReader(bench.storePath, isExclusive: true)
    for arguments in [
      ["diff", "base", "base"], ["map", "base"], ["query", "vms"], ["verify"], ["gc"],
      ["optimize"], ["delete", "base"], ["restore", "base", "-o", bench.directory.file("out")],
      ["save", source, "--name", "x"],
    ] {
      let child = try bench.tool.start(arguments)
      try child.waitUntilItWaits(for: .lock(bench.storePath))
      child.send(SIGINT)
      let outcome = try child.wait(timeoutSeconds: Self.lessThanAWaitSeconds)
      #expect(outcome.ending == .signal(SIGINT), "\(outcome)")
      #expect(outcome.standardError == "vmckpt: interrupted\n")
    }
    try holder.end()
    try expectSound(bench, [("base", base)], "after interrupted waits for a busy store")
  }
}
