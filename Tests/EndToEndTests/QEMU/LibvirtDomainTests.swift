import Foundation
import Testing
import VMCheckpointTestSupport

/// A domain that a real libvirtd runs, with QEMU as another user and in its sandbox.
@Suite(.serialized, .guest, .slow, .enabled(if: SmallFileSystem.canMount, "cannot mount"))
struct LibvirtDomainTests {
  private let bench: Workbench
  /// Made before the daemon, which has the mounts of when it was started.
  private let small: SmallFileSystem
  private let daemon: LibvirtDaemon

  init() throws {
    bench = try Workbench()
    small = try SmallFileSystem()
    daemon = try LibvirtDaemon()
  }

  private func saveArguments(_ options: String...) -> [String] {
    ["save", "libvirt:\(LibvirtDaemon.domain)", "--connect", daemon.uri] + options
  }

  private func expectOne(_ counts: [CountingGuest.Count], from start: Int) {
    #expect(
      counts.map(\.number) == Array(start..<(start + counts.count)),
      "\(counts.map(\.number))"
    )
    #expect(Set(counts.map(\.nonce)).count == 1)
  }

  @Test func aDomainGoesOnAndItsSnapshotGoesOnFromTheSameMoment() throws {
    let before = try daemon.waitForMore(3)
    let machine = try daemon.machine()
    #expect(machine.user != "0")
    #expect(machine.arguments.contains { $0.hasPrefix("on,") && $0.contains("spawn=deny") })
    let disks = try daemon.virsh("domblklist", LibvirtDaemon.domain)

    let outcome = try bench.tool.start(saveArguments("--name", "a", "--json")).wait()
    let atEnd = daemon.counts()
    expectSuccess(outcome)
    let saved = try outcome.jsonObject()
    #expect(saved["vm"] as? String == LibvirtDaemon.domain)
    #expect(saved["ram_bytes"] as? Int == 128 << 20)
    #expect(saved["device_state_count"] as? Int == 3)
    #expect(saved["paused_seconds"] is Double)
    #expect(bench.directory.entries == ["store.db", "store.db-journal", "store.db-lock"])

    // The domain is the same, runs, and has nothing more than it had.
    expectOne(try daemon.waitForMore(3), from: 0)
    #expect(try daemon.state().hasPrefix("running"))
    #expect(try daemon.virsh("snapshot-list", LibvirtDaemon.domain, "--name").isEmpty)
    #expect(try daemon.virsh("domblklist", LibvirtDaemon.domain) == disks)
    #expect(try daemon.machine().arguments == machine.arguments)
    #expect(!daemon.log.contains("tainted"))

    // What was paused stays so, and is saved all the same.
    try daemon.virsh("suspend", LibvirtDaemon.domain)
    expectSuccess(try bench.tool.start(saveArguments("--name", "paused")).wait())
    #expect(try daemon.state() == "paused (user)")

    // The domain is gone; its snapshot goes on from where it was.
    try daemon.virsh("destroy", LibvirtDaemon.domain)
    expectFailure(
      try bench.tool.start(saveArguments()).wait(),
      69,
      "domain \"counter\" is \"shut off\" and cannot be saved; start it, or wait until it runs or is "
        + "paused"
    )
    let printed = daemon.counts().count
    let image = bench.directory.file("a.save")
    try bench.tool.succeed("restore", "a", "--format", "libvirt-save", "-o", image)
    try daemon.virsh("restore", image)
    let restored = Array(try daemon.waitForMore(3).dropFirst(printed))
    let first = try #require(restored.first)
    let last = try #require(before.last).number
    #expect(first.number >= last && first.number <= atEnd.count)
    expectOne(restored, from: first.number)
    #expect(first.nonce == before.first?.nonce)

    // A managed save is found by its name.
    try daemon.virsh("managedsave", LibvirtDaemon.domain)
    let managed = try bench.tool.start(saveArguments()).wait()
    #expect(managed.ending == .exit(69))
    #expect(managed.standardError.contains("its memory is in a managed save"), "\(managed)")
    try daemon.virsh("start", LibvirtDaemon.domain)

    // A user who is not root reads what libvirtd writes as root. libvirt wants the user to have a name.
    let own = try TemporaryDirectory()
    let user = try #require(getpwnam("daemon")).pointee
    #expect(chown(own.path, user.pw_uid, user.pw_gid) == 0)
    let tool = try VMCkptTool(storePath: own.file("store.db"))
    let asUser = ["setpriv", "--reuid", "daemon", "--regid", "daemon", "--clear-groups"]
    expectSuccess(
      try run(
        ["/usr/bin/env"] + asUser + tool.commandLine(saveArguments()),
        environment: ["HOME": own.path]
      )
    )
    #expect(own.entries == ["store.db", "store.db-journal", "store.db-lock"])
    #expect(try daemon.state().hasPrefix("running"))
  }

  /// Starts a save, and waits until libvirt writes memory.
  private func startSave() throws -> ChildProcess {
    let child = try bench.tool.start(saveArguments("--name", "a"))
    try waitUntil("libvirt writes memory") {
      guard child.isRunning else { throw TestSetupError("\(try child.wait())") }
      return memoryFiles.contains { ((try? readFile($0)) ?? []).isEmpty == false }
    }
    #expect(try daemon.state() == "paused (creating snapshot)")
    return child
  }

  private var memoryFiles: [String] {
    bench.directory.entries.filter { $0.hasPrefix(".vmckpt-libvirt-") }
      .map { bench.directory.file("\($0)/memory") }
  }

  @Test func anEndedSaveLeavesTheDomainRunning() throws {
    _ = try daemon.waitForMore(3)

    // Ctrl-C aborts libvirt's job, and leaves nothing.
    daemon.isSlow = true
    let interrupted = try startSave()
    interrupted.send(SIGINT)
    let outcome = try interrupted.wait()
    #expect(outcome.ending == .signal(SIGINT), "\(outcome)")
    #expect(try daemon.state().hasPrefix("running"))
    #expect(memoryFiles.isEmpty)
    #expect(!exists(bench.storePath))
    expectOne(try daemon.waitForMore(3), from: 0)

    // After kill -9 the domain goes on when libvirt's job ends.
    let killed = try startSave()
    killed.send(SIGKILL)
    #expect(try killed.wait().ending == .signal(SIGKILL))
    #expect(memoryFiles.count == 1)
    daemon.isSlow = false
    try waitUntil("the domain goes on") { try daemon.state().hasPrefix("running") }
    expectOne(try daemon.waitForMore(3), from: 0)

    // The next save removes what that left.
    #expect(memoryFiles.count == 1)
    expectSuccess(try bench.tool.start(saveArguments("--name", "b")).wait())
    #expect(memoryFiles.isEmpty)
    #expect(try bench.tool.snapshotNames() == ["b"])

    // A disk that is full for libvirt.
    let full = try VMCkptTool(storePath: "\(small.path)/store.db").start(saveArguments()).wait()
    #expect(full.ending == .exit(74), "\(full)")
    #expect(full.standardError.contains("No space left on device"), "\(full)")
    #expect(full.standardError.contains("free some space"))
    #expect(directoryEntries(small.path).isEmpty, "\(directoryEntries(small.path))")
    #expect(try daemon.state().hasPrefix("running"))
    expectOne(try daemon.waitForMore(3), from: 0)
  }
}
