import Glibc
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
    let rest = try bench.write("rest", incompressibleRAM(12_000, seed: 7))
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "large", "--wait", "40"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(incompressibleRAM(12_000, seed: 6))
    try waitUntil("a batch is committed") {
      try bench.sql.integer("SELECT count(*) FROM chunk") > 100
    }
    let reader = try StoreReader(bench.storePath)
    let feeder = try ChildProcess(["/bin/cat", rest], outputDescriptor: pipe.writerForChild)
    pipe.closeWriter()
    // What it does before it waits takes its time on a busy machine.
    try save.waitUntilItWaits(for: .lock(bench.storePath))
    let start = monotonicSeconds()
    let outcome = try save.wait()
    #expect(outcome.ending == .exit(75), "\(outcome)")
    #expect(monotonicSeconds() - start < 75, "\(outcome)")
    feeder.send(SIGKILL)
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
    let patient = try bench.tool.start(["gc", "--wait", "600"])
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
