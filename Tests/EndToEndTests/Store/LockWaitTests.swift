import Testing
import VMCheckpointTestSupport

/// Waiting for others: for as long as is asked for, and with a word on who it is.
@Suite struct LockWaitTests {
  /// Not so long for each thing that is then tried.
  @Test func aReaderWhoStaysCostsOneWaitInAll() throws {
    let bench = try Workbench()
    let first = sampleRAM(10)
    try bench.save("first", first)
    // Some batches are committed before the reader comes, so that there is something to clean up.
    let parts = try (6...7).map {
      try bench.write("part\($0)", incompressibleRAM(12_000, seed: UInt64($0)))
    }
    let go = bench.directory.file("go")
    let script = """
      (cat "$1"; while [ ! -e "$3" ]; do sleep 0.05; done; cat "$2") | { shift 3; exec "$@"; }
      """
    let save = try ChildProcess(
      ["/bin/sh", "-c", script, "sh"] + parts + [go]
        + bench.tool.commandLine(["save", "-", "--name", "large", "--wait", "20"])
    )
    try waitUntil("a batch is committed") {
      try bench.sql.integer("SELECT count(*) FROM chunk") > 100
    }
    let reader = try StoreReader(bench.storePath)
    let start = monotonicSeconds()
    try writeFile(go, "")
    let outcome = try save.wait(timeoutSeconds: 300)
    #expect(outcome.ending == .exit(75), "\(outcome)")
    #expect(monotonicSeconds() - start < 40, "\(outcome)")
    try reader.end()
    try expectSound(bench, [("first", first)], "after waiting in vain")
  }

  @Test("who holds the store is named, and nobody waits who does not want to")
  func theHolderIsNamed() throws {
    let bench = try Workbench()
    let first = sampleRAM(10)
    try bench.save("first", first)
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "second"],
      input: .descriptor(pipe.reader)
    )
    // The writer's lock is taken before anything is read.
    try waitUntil("the save has begun") {
      try bench.tool.run("gc", "--no-wait").ending == .exit(75)
    }
    let refused = try bench.tool.run("gc", "--no-wait")
    let expected =
      "vmckpt: store \"\(bench.storePath)\" is in use by vmckpt save (PID \(save.identifier), since 2"
    #expect(refused.standardError.hasPrefix(expected), "\(refused)")
    #expect(refused.standardError.hasSuffix("Z); try again when it is done\n"), "\(refused)")
    let patient = try bench.tool.start(["gc", "--wait", "100"])
    try pipe.write(first)
    pipe.closeWriter()
    #expect(try save.wait().succeeded)
    #expect(try patient.wait().succeeded, "who waits gets his turn")
  }

  @Test("a program with a transaction of the store is named too")
  func theReaderIsNamed() throws {
    let bench = try Workbench()
    try bench.save("first", sampleRAM(10))
    let reader = try StoreReader(bench.storePath, isExclusive: true)
    for arguments in [
      ["list", "--no-wait"], ["gc", "--wait", "0"], ["show", "first", "--wait", "1"],
    ] {
      let refused = try bench.tool.start(arguments).wait()
      #expect(refused.ending == .exit(75), "\(refused)")
      #expect(refused.standardError.contains("is locked by \"sqlite3\" (PID "), "\(refused)")
    }
    try reader.end()
    #expect(try bench.tool.run("list", "--no-wait").succeeded)
  }

  @Test(arguments: [["--wait", "-1"], ["--wait", "604801"], ["--wait", "5", "--no-wait"]])
  func aWaitThatMakesNoSenseIsRefused(options: [String]) throws {
    let bench = try Workbench()
    #expect(try bench.tool.start(["list"] + options).wait().ending == .exit(64))
  }
}
