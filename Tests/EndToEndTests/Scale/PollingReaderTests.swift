import Foundation
import Testing
import VMCheckpointTestSupport

/// A monitor that looks at a store all the time.
@Suite(.serialized) struct PollingReaderTests {
  /// Reads as the article SQL shows it in Python, until its standard input ends; prints what it saw.
  private static let poller = """
    import json, select, sqlite3, sys, time
    path, reconnects = sys.argv[1], sys.argv[2] == "yes"
    connect = lambda: sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=120)
    connection, waits, errors = connect(), [], []
    open(sys.argv[3], "x").close()
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        start = time.perf_counter()
        try:
            if reconnects:
                connection.close()
                connection = connect()
            connection.execute("SELECT name, tags FROM snapshot_summary").fetchall()
        except sqlite3.Error as error:
            errors.append(str(error))
        waits.append(time.perf_counter() - start)
    waits.sort()
    print(json.dumps({"count": len(waits), "errors": errors, "p99": waits[len(waits) * 99 // 100]}))
    """

  /// The limit that is promised is 100 ms; this one is for machines that are busy. What else the
  /// machine does only adds to a wait, so that the best of six measurements counts; an error in any
  /// of them is one.
  @Test(.slow, arguments: [false, true])
  func aReaderThatPollsNeverFailsAndHardlyWaits(reconnects: Bool) throws {
    var waits: [Double] = []
    while waits.count < 6, waits.allSatisfy({ $0 >= 0.5 }) {
      let result = try poll(reconnects: reconnects)
      #expect(result["errors"] as? [String] == [])
      #expect((result["count"] as? Int ?? 0) > 20, "\(result)")
      waits.append(result["p99"] as? Double ?? .infinity)
    }
    #expect(waits.contains { $0 < 0.5 }, "\(waits)")
  }

  /// What a reader sees while three saves run.
  private func poll(reconnects: Bool) throws -> [String: Any] {
    let bench = try Workbench()
    try bench.save("base", sampleRAM(100))
    let first = try bench.write("first", incompressibleRAM(12_000, seed: 2))
    let second = try bench.write("second", incompressibleRAM(12_000, seed: 3))
    let script = try bench.write("poller.py", Self.poller)
    let ready = bench.directory.file("ready")
    let pipe = try ChildPipe()
    let reader = try ChildProcess(
      ["/usr/bin/env", "python3", script, bench.storePath, reconnects ? "yes" : "no", ready],
      input: .descriptor(pipe.reader)
    )
    try waitUntil("it reads") { exists(ready) }
    for (index, source) in [first, second, first].enumerated() {
      try bench.tool.succeed("save", source, "--name", "s\(index)", "--vm", "vm\(index)")
    }
    pipe.closeWriter()
    let outcome = try reader.wait()
    try #require(outcome.succeeded, "\(outcome)")
    return try outcome.jsonObject()
  }
}
