import Testing
import VMCheckpointTestSupport

/// A reader who does not go away costs a minute, not a minute for each thing that is then tried.
@Suite struct LockWaitTests {
  @Test func aReaderWhoStaysCostsOneMinuteInAll() throws {
    let bench = try Workbench()
    let first = sampleRAM(10)
    try bench.save("first", first)
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "large"],
      input: .descriptor(pipe.reader)
    )
    // Some batches are committed before the reader comes, so that there is something to clean up.
    try pipe.write(incompressibleRAM(12_000, seed: 6))
    try waitUntil("a batch is committed") {
      try bench.sql.integer("SELECT count(*) FROM chunk") > 100
    }
    let reader = try StoreReader(bench.storePath)
    let start = monotonicSeconds()
    try pipe.write(incompressibleRAM(12_000, seed: 7))
    pipe.closeWriter()
    let outcome = try save.wait(timeoutSeconds: 400)
    #expect(outcome.ending == .exit(75), "\(outcome)")
    #expect(monotonicSeconds() - start < 90, "\(outcome)")
    try reader.end()
    try expectSound(bench, [("first", first)], "after waiting in vain")
  }
}
