import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt resume` of real guests whose pages are still in an object store.
@Suite(.serialized, .guest) struct LazyResumeTests {
  private let bench: RemoteBench
  private let server: MockObjectStore

  init() throws {
    bench = try RemoteBench()
    server = try MockObjectStore()
  }

  @Test(
    "a guest runs from a remote, waits while that is lost, and goes on as the same guest",
    arguments: ["postcopy", "mount"]
  )
  func resumed(way: String) throws {
    if way == "mount" { try #require(MountTool.canMount) }
    let environment = ["AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"]
    func host(_ name: String, _ verb: String) throws -> ([String]) throws -> ProcessOutcome {
      let tool = try VMCkptTool(storePath: bench.directory.file("\(name).db"))
      func run(_ arguments: [String]) throws -> ProcessOutcome {
        let outcome = try ChildProcess(tool.commandLine(arguments), environment: environment).wait()
        guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
        return outcome
      }
      _ = try run([
        "remote", verb, "s3://\(server.bucket)/fleet", "--endpoint", server.endpoint,
      ])
      return run
    }
    let one = try host("one", "init")
    let guest = try CountingGuest("saved", in: bench.directory)
    let before = try guest.waitForCounts(2)
    _ = try one(["save", "qemu:\(guest.monitorPath)", "--name", "live", "--leave-stopped"])
    let last = guest.counts()
    try guest.kill()
    _ = try one(["push", "live"])
    let two = try host("two", "add")
    _ = try two(["remote", "fetch"])

    // The remote is lost before one page has come.
    server.setFault { $0.path.contains("/packs/") ? .reset : nil }
    let place = try bench.directory.subdirectory("resumed")
    let tool = try VMCkptTool(storePath: bench.directory.file("two.db"))
    let resumed = try ChildProcess(
      tool.commandLine(["resume", "live", "--lazy", way, "--trust-command"]),
      environment: environment.merging([
        "VMCKPT_WORKING_DIRECTORY": place, "TMPDIR": bench.directory.path,
      ]) { $1 }
    )
    defer { if resumed.isRunning { resumed.send(SIGKILL) } }
    if way == "postcopy" {
      try waitUntil("the user is told that the guest waits") {
        guard resumed.isRunning else { throw TestSetupError("\(try resumed.wait())") }
        return resumed.standardErrorSoFar.contains("whoever needs them waits")
      }
    } else {
      usleep(6_000_000)
    }
    #expect(CountingGuest.counts(console: "\(place)/console").isEmpty)
    server.setFault { _ in nil }
    try waitUntil("the guest goes on") {
      guard resumed.isRunning else { throw TestSetupError("\(try resumed.wait())") }
      return CountingGuest.counts(console: "\(place)/console").count >= 3
    }
    let counts = CountingGuest.counts(console: "\(place)/console")
    #expect(counts.areOne(with: before + last, slack: 20), "\(last) \(counts)")
    if way == "postcopy" {
      try waitUntil("QEMU has all pages") {
        try (tool.json("lease", "list")["leases"] as? [Any])?.isEmpty == true
      }
    }
    resumed.send(SIGTERM)
    let outcome = try resumed.wait()
    #expect(outcome.ending == .exit(0), "\(outcome)")
    if way == "postcopy" {
      #expect(outcome.standardError.contains("gives pages again"), "\(outcome)")
      #expect(outcome.standardError.contains("it gave nothing"), "\(outcome)")
    }
  }

  @Test("QEMU that is ended while its guest waits for a remote ends, and so does its server")
  func endedWhileWaiting() throws {
    let environment = ["AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"]
    let tools = try ["one", "two"].map {
      try VMCkptTool(storePath: bench.directory.file("\($0).db"))
    }
    func run(_ tool: VMCkptTool, _ arguments: String...) throws {
      let outcome = try ChildProcess(tool.commandLine(arguments), environment: environment).wait()
      guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    }
    let address = "s3://\(server.bucket)/fleet"
    try run(tools[0], "remote", "init", address, "--endpoint", server.endpoint)
    let guest = try CountingGuest("saved", in: bench.directory)
    _ = try guest.waitForCounts(2)
    try run(tools[0], "save", "qemu:\(guest.monitorPath)", "--name", "live", "--leave-stopped")
    try guest.kill()
    try run(tools[0], "push", "live")
    try run(tools[1], "remote", "add", address, "--endpoint", server.endpoint)
    try run(tools[1], "remote", "fetch")
    server.stop()
    let resumed = try ChildProcess(
      tools[1].commandLine(["resume", "live", "--lazy", "postcopy", "--trust-command", "--json"]),
      environment: environment.merging(["VMCKPT_WORKING_DIRECTORY": bench.directory.path]) { $1 }
    )
    defer { if resumed.isRunning { resumed.send(SIGKILL) } }
    usleep(6_000_000)
    #expect(resumed.isRunning)
    resumed.send(SIGTERM)
    // A QEMU whose vCPU waits for a page may not end by itself: then it is ended after 20 s.
    let outcome = try resumed.wait()
    #expect(outcome.endedOrderly || outcome.ending == .exit(137), "\(outcome)")
    #expect(try (tools[1].json("lease", "list")["leases"] as? [Any])?.isEmpty == true)
  }
}
