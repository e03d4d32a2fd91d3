import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt resume` of real guests.
@Suite(.serialized, .guest) struct ResumeTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// A guest that `vmckpt resume` runs. It is asked to end when the object goes away.
  private final class Resumed {
    let process: ChildProcess
    let consolePath: String
    let monitorPath: String

    init(
      _ bench: Workbench,
      _ options: [String] = [],
      reference: String = "live",
      arguments: [String] = [],
      temporary: String = "/tmp",
      wrapper: [String] = [],
      environment: [String: String] = [:]
    ) throws {
      let place = try bench.directory.subdirectory("resumed-\(UUID().uuidString.prefix(8))")
      consolePath = "\(place)/console"
      monitorPath = "\(place)/qmp2"
      process = try ChildProcess(
        wrapper + bench.tool.commandLine(["resume", reference, "--json"] + options) + arguments,
        environment: ["VMCKPT_WORKING_DIRECTORY": place, "TMPDIR": temporary]
          .merging(environment) { $1 }
      )
    }

    deinit { if process.isRunning { _ = try? end() } }

    func end(_ signal: Int32 = SIGTERM) throws -> ProcessOutcome {
      process.send(signal)
      return try process.wait()
    }

    func waitForCounts(_ count: Int) throws -> [CountingGuest.Count] {
      try waitUntil("the guest printed \(count) numbers") {
        guard process.isRunning else { throw TestSetupError("\(try process.wait())") }
        return CountingGuest.counts(console: consolePath).count >= count
      }
      return CountingGuest.counts(console: consolePath)
    }

    /// The processes that it has started, and still run.
    var children: [Int32] {
      let path = "/proc/\(process.identifier)/task/\(process.identifier)/children"
      let text = (try? readFile(procFile: path)) ?? ""
      return text.split(separator: " ").compactMap { Int32($0) }
    }

    /// The process that gives the guest its pages, if it is none of these.
    func server(except others: Set<Int32>) -> Int32? {
      children.first { child in
        let line = (try? readFile(procFile: "/proc/\(child)/cmdline")) ?? ""
        return line.split(separator: "\0").contains("serve") && !others.contains(child)
      }
    }
  }

  private func saveGuest(_ qemu: QEMURelease, isStopped: Bool = false) throws
    -> [CountingGuest.Count]
  {
    let guest = try CountingGuest("saved", in: bench.directory, qemu: qemu)
    _ = try guest.waitForCounts(2)
    if isStopped { try guest.monitor().run("stop") }
    try bench.tool.succeed(
      "save",
      "qemu:\(guest.monitorPath)",
      "--name",
      "live",
      "--leave-stopped"
    )
    let counts = guest.counts()
    try guest.kill()
    return counts
  }

  private var leases: Int {
    get throws { try #require(bench.tool.json("lease", "list")["leases"] as? [Any]).count }
  }

  private func waitUntilItRuns(_ resumed: Resumed) throws {
    let monitor = try QMPConnection(path: resumed.monitorPath)
    try waitUntil("the guest runs") { try monitor.status() == "running" }
  }

  private func result(_ outcome: ProcessOutcome) throws -> [String: Any] {
    let text = outcome.standardError
    let start = try #require(text.firstIndex(of: "{"), "\(outcome)")
    let object = try JSONSerialization.jsonObject(with: Data(text[start...].utf8))
    return try #require(object as? [String: Any], "\(outcome)")
  }

  @Test("in a container that forbids a postcopy migration to root, the guest runs in another way")
  func container() throws {
    let before = try saveGuest(.system)
    let faults = try FaultLibrary()
    let forbidden = faults.environment(forbidsUnlocking: true)
    let resumed = try Resumed(bench, environment: forbidden)
    #expect(try resumed.waitForCounts(before.count + 2).count > before.count)
    let way = try result(try resumed.end())["lazy"] as? String
    #expect(way == (MountTool.canMount ? "mount" : "none"))
    let asked = try run(
      bench.tool.commandLine(["resume", "live", "--lazy", "postcopy"]),
      environment: forbidden
    )
    expectFailure(
      asked,
      77,
      "this user may not call munlockall, which a postcopy migration needs; give --lazy mount, or --lazy none"
    )
  }

  @Test(
    "the guest goes on, and nothing is left when it is ended",
    arguments: ["postcopy", "none"],
    QEMURelease.allCases
  )
  func goesOn(way: String, qemu: QEMURelease) throws {
    let before = try saveGuest(qemu)
    let temporary = try bench.directory.subdirectory("t")
    let resumed = try Resumed(bench, ["--lazy", way], temporary: temporary)
    let counts = try resumed.waitForCounts(3)
    #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
    if way == "postcopy" {
      let monitor = try QMPConnection(path: resumed.monitorPath)
      try waitUntil("QEMU has all pages") {
        (try monitor.run("query-migrate") as? [String: Any])?["status"] as? String == "completed"
      }
    }
    let children = resumed.children
    #expect(!children.isEmpty)
    let outcome = try resumed.end()
    // QEMU ends in good order when it is asked to.
    #expect(outcome.ending == .exit(0), "\(outcome)")
    let result = try result(outcome)
    #expect(result["lazy"] as? String == way)
    #expect(result["qemu_exit_code"] as? Int == 0)
    let stages = try #require(result["stages"] as? [[String: Any]])
    #expect(
      stages.compactMap { $0["stage"] as? String }
        == (way == "postcopy" ? ["prepare", "start", "load", "send"] : ["prepare", "restore"])
    )
    #expect(stages.allSatisfy { ($0["seconds"] as? Double ?? -1) >= 0 }, "\(stages)")
    if way == "postcopy" {
      let served = try #require(result["served"] as? [String: Any])
      #expect(served["name"] as? String == "live")
      #expect(served["working_set_recorded"] as? Bool == true)
    }
    for child in children { #expect(kill(child, 0) != 0, "process \(child) is left") }
    #expect(directoryEntries(temporary).isEmpty)
    #expect(try leases == 0)
  }

  @Test("a guest that was resumed is saved and resumed again, as often as one likes")
  func generations() throws {
    var before = try saveGuest(.system)
    var (reference, slack) = ("live", 20)
    for generation in 1...3 {
      let resumed = try Resumed(bench, ["--lazy", "postcopy"], reference: reference)
      let counts = try resumed.waitForCounts(3)
      #expect(counts.areOne(with: before, slack: slack), "\(before) \(counts)")
      do {
        let monitor = try QMPConnection(path: resumed.monitorPath)
        try waitUntil("QEMU has all pages") {
          (try monitor.run("query-migrate") as? [String: Any])?["status"] as? String == "completed"
        }
      }
      reference = "live-\(generation)"
      let earlier = CountingGuest.counts(console: resumed.consolePath)
      try bench.tool.succeed("save", "qemu:\(resumed.monitorPath)", "--name", reference)
      before = CountingGuest.counts(console: resumed.consolePath)
      slack = earlier.slack(until: before)
      #expect(try resumed.end().ending == .exit(0))
    }
    let place = try bench.directory.subdirectory("place")
    try bench.tool.succeed("restore", reference, "--format", "qemu", "-o", "\(place)/vm")
    let script = String(decoding: try readFile("\(place)/vm/run.sh"), as: UTF8.self)
    #expect(!script.contains("vmckpt-qemu."))
    #expect(!script.contains("postcopy-ram"))
  }

  @Test("a guest does not take the sockets of one that still runs")
  func takenSockets() throws {
    _ = try saveGuest(.system)
    let socket = bench.directory.file("monitor")
    let own = ["--", "-qmp", "unix:\(socket),server=on,wait=off"]
    let running = try Resumed(bench, arguments: own)
    _ = try running.waitForCounts(1)
    let second = try Resumed(bench, arguments: own)
    let refused = try second.process.wait()
    #expect(refused.ending == .exit(69), "\(refused)")
    #expect(refused.standardError.contains(socket), "\(refused)")
    #expect(try QMPConnection(path: socket).status() == "running")
    #expect(try running.end().ending == .exit(0))
  }

  @Test("nor those that are named without a folder, where they are in the same one")
  func takenRelativeSockets() throws {
    _ = try saveGuest(.system)
    let place = try bench.directory.subdirectory("place")
    let environment = ["VMCKPT_WORKING_DIRECTORY": place]
    let running = try Resumed(bench, environment: environment)
    try waitUntil("QEMU listens") {
      (try? QMPConnection(path: "\(place)/qmp2").status()) == "running"
    }
    let second = try Resumed(bench, environment: environment)
    let refused = try second.process.wait()
    #expect(refused.ending == .exit(69), "\(refused)")
    #expect(refused.standardError.contains("another program listens at"), "\(refused)")
    #expect(try QMPConnection(path: "\(place)/qmp2").status() == "running")
    // In another folder it is another socket.
    let elsewhere = try Resumed(bench)
    _ = try elsewhere.waitForCounts(1)
    #expect(try elsewhere.end().ending == .exit(0))
    #expect(try running.end().ending == .exit(0))
  }

  @Test(
    "a socket of another container that has the same path is not in the way",
    .enabled(if: SmallFileSystem.canMount, "cannot mount")
  )
  func socketsElsewhere() throws {
    _ = try saveGuest(.system)
    let place = try bench.directory.subdirectory("run")
    let own = ["--", "-qmp", "unix:\(place)/monitor,server=on,wait=off"]
    let running = try Resumed(bench, arguments: own)
    _ = try running.waitForCounts(1)
    // It shares the network, and so the table of sockets, but not the folder.
    let script = "mount -t tmpfs none \(place) && exec \"$@\""
    let second = try Resumed(
      bench,
      arguments: own,
      wrapper: ["/usr/bin/env", "unshare", "--mount", "/bin/sh", "-c", script, "sh"]
    )
    _ = try second.waitForCounts(1)
    #expect(try second.end().ending == .exit(0))
    #expect(try running.end().ending == .exit(0))
  }

  @Test(
    "a guest runs from a mount of its own, outlives that one's server, and leaves no mount",
    .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"),
    arguments: QEMURelease.allCases
  )
  func mounted(qemu: QEMURelease) throws {
    let before = try saveGuest(qemu)
    let temporary = try bench.directory.subdirectory("t")
    let resumed = try Resumed(bench, ["--lazy", "mount"], temporary: temporary)
    let counts = try resumed.waitForCounts(3)
    #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
    let server = try #require(try mountServers(below: temporary).first)
    #expect(try bench.tool.run("delete", "live").ending == .exit(75))
    kill(server, SIGKILL)
    try waitUntil("another server runs") {
      try mountServers(below: temporary).contains { $0 != server }
    }
    _ = try resumed.waitForCounts(resumed.waitForCounts(1).count + 3)
    let outcome = try resumed.end()
    #expect(outcome.ending == .exit(0), "\(outcome)")
    let result = try result(outcome)
    #expect(result["lazy"] as? String == "mount")
    #expect(result["served"] is NSNull)
    #expect(directoryEntries(temporary).isEmpty)
    #expect(try leases == 0)
    try waitUntil("no server is left") { try mountServers(below: temporary).isEmpty }
    try bench.tool.succeed("delete", "live")
  }

  /// The processes that serve a mount, without keepers.
  private func mountServers(below directory: String) throws -> [Int32] {
    directoryEntries("/proc").compactMap { Int32($0) }.filter { pid in
      guard let line = try? readFile(procFile: "/proc/\(pid)/cmdline") else { return false }
      let arguments = line.split(separator: "\0").map(String.init)
      return arguments.contains("mount") && !arguments.contains("__serve-keeper")
        && arguments.contains { $0.hasPrefix("\(directory)/") }
    }
  }

  /// The guest's only vCPU may wait for a page then, and hold the lock that QEMU's main loop needs.
  @Test("servers that are killed are replaced", arguments: QEMURelease.allCases)
  func killedServers(qemu: QEMURelease) throws {
    let before = try saveGuest(qemu)
    let resumed = try Resumed(bench, ["--lazy", "postcopy"])
    // Killed before the guest runs, the first server would end QEMU.
    try waitUntilItRuns(resumed)
    var killed: Set<Int32> = []
    var generator = TestGenerator(seed: 5)
    for _ in 0..<soakRounds(4) {
      var server: Int32?
      try waitUntil("a server runs, or QEMU has all pages") {
        guard resumed.process.isRunning else {
          throw TestSetupError("\(try resumed.process.wait())")
        }
        server = resumed.server(except: killed)
        return try server != nil || leases == 0
      }
      guard let server else { break }
      usleep(UInt32(generator.int(0...200_000)))
      kill(server, SIGKILL)
      killed.insert(server)
    }
    let counts = try resumed.waitForCounts(3)
    #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
    try waitUntil("the lease is given back") { try leases == 0 }
    let outcome = try resumed.end()
    #expect(outcome.ending == .exit(0), "\(outcome)")
    // Some may have been done before they were killed.
    let result = try result(outcome)
    #expect((1...(1 + killed.count)).contains(try #require(result["servers"] as? Int)), "\(result)")
  }

  @Test("a guest whose store is away for a while goes on when it is back")
  func storeAway() throws {
    let before = try saveGuest(.system)
    // The background waits, so that the guest needs its server.
    let resumed = try Resumed(bench, ["--lazy", "postcopy", "--record-working-set", "600"])
    try waitUntilItRuns(resumed)
    let server = try #require(resumed.server(except: []))
    let put = bench.directory.file("put-aside.db")
    rename(bench.storePath, put)
    kill(server, SIGKILL)
    // Some servers find no store.
    var servers: Set<Int32> = [server]
    try waitUntil("some servers come") {
      guard resumed.process.isRunning else {
        throw TestSetupError("\(try resumed.process.wait())")
      }
      if let next = resumed.server(except: servers) { servers.insert(next) }
      return servers.count > 3
    }
    #expect(resumed.process.isRunning)
    rename(put, bench.storePath)
    let counts = try resumed.waitForCounts(resumed.waitForCounts(1).count + 3)
    #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
    let outcome = try resumed.end()
    #expect(outcome.ending == .exit(0), "\(outcome)")
    #expect(try #require(result(outcome)["servers"] as? Int) > 2)
    #expect(try leases == 0)
  }

  @Test("a server that is killed while its guest ends leaves no lease")
  func killedAtTheEnd() throws {
    _ = try saveGuest(.system)
    // The background waits, so that the server has work.
    let resumed = try Resumed(bench, ["--lazy", "postcopy", "--record-working-set", "600"])
    try waitUntilItRuns(resumed)
    let server = try #require(resumed.server(except: []))
    #expect(try leases == 1)
    // Stopped, it cannot give its lease back.
    kill(server, SIGSTOP)
    resumed.process.send(SIGTERM)
    kill(server, SIGKILL)
    _ = try resumed.process.wait()
    #expect(try leases == 0)
    try bench.tool.succeed("delete", "live")
  }

  @Test("QEMU's end is that of resume, and a guest that was stopped stays stopped")
  func ending() throws {
    let before = try saveGuest(.system, isStopped: true)
    let resumed = try Resumed(bench)
    let monitor = try QMPConnection(path: resumed.monitorPath)
    try waitUntil("QEMU has all pages") {
      (try monitor.run("query-migrate") as? [String: Any])?["status"] as? String == "completed"
    }
    #expect(try monitor.status() == "paused")
    #expect(CountingGuest.counts(console: resumed.consolePath).isEmpty)
    try monitor.run("cont")
    #expect(try resumed.waitForCounts(3).goOn(from: before))
    let qemu = try #require(resumed.children.first)
    kill(qemu, SIGKILL)
    let outcome = try resumed.process.wait()
    #expect(outcome.ending == .exit(137), "\(outcome)")
    #expect(try result(outcome)["qemu_signal"] as? Int == 9)
  }

  @Test("a command line that nobody trusts is shown, and not run")
  func trust() throws {
    _ = try saveGuest(.system)
    let marker = bench.directory.file("ran")
    // A user without the key that proves who recorded it.
    let outcome = try ChildProcess(
      bench.tool.commandLine(["resume", "live"]),
      environment: ["XDG_STATE_HOME": try bench.directory.subdirectory("nobody")]
    ).wait()
    #expect(outcome.ending == .exit(77), "\(outcome)")
    #expect(outcome.standardError.contains("another user or host recorded it"), "\(outcome)")
    #expect(outcome.standardError.contains("'-initrd'"), "\(outcome)")
    #expect(outcome.standardError.contains("--trust-command"))
    // One of the user's own needs no trust.
    let own = try bench.tool.run("resume", "live", "--", "/usr/bin/touch", marker)
    // `touch` does not know QEMU's options, and so fails.
    #expect(own.ending != .exit(77), "\(own)")
    let bare = try bench.tool.run("resume", "live", "--lazy", "mount", "--overlays", "omit")
    #expect(bare.ending == .exit(64))
    #expect(bare.standardError.contains("a mount shows RAM as the guest saw it"), "\(bare)")
    try bench.save("flat", sampleRAM(16, seed: 1))
    #expect(try bench.tool.run("resume", "flat", "--trust-command").ending == .exit(64))
    let stream = try bench.write("guest.stream", FakeQEMU.stream(pageCount: 64))
    try bench.tool.succeed("save", "qemu-stream:\(stream)", "--name", "stream")
    let without = try bench.tool.run("resume", "stream", "--trust-command")
    #expect(without.ending == .exit(64))
    #expect(without.standardError.contains("has no command line of QEMU"), "\(without)")
  }
}
