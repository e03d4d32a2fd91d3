import Testing
import VMCheckpointTestSupport

/// A reader who does not go away costs a minute, not a minute for each thing that is then tried.
@Suite struct LockWaitTests {
  @Test(.slow) func aReaderWhoStaysCostsOneMinuteInAll() throws {
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
        + bench.tool.commandLine(["save", "-", "--name", "large"])
    )
    try waitUntil("a batch is committed") {
      try bench.sql.integer("SELECT count(*) FROM chunk") > 100
    }
    let reader = try StoreReader(bench.storePath)
    let start = monotonicSeconds()
    try writeFile(go, "")
    let outcome = try save.wait(timeoutSeconds: 300)
    #expect(outcome.ending == .exit(75), "\(outcome)")
    #expect(monotonicSeconds() - start < 90, "\(outcome)")
    try reader.end()
    try expectSound(bench, [("first", first)], "after waiting in vain")
  }
}
