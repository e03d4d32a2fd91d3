import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Real guests that are saved while they run, through QEMU's monitor.
@Suite(.serialized, .guest) struct QEMULiveTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// How a guest's RAM is made in a test.
  enum Backend: String, CaseIterable, Sendable {
    case anonymous, file, memfd
  }

  private func start(
    _ backend: Backend,
    _ qemu: QEMURelease,
    cpuCount: Int = 1,
    memory: String = "128M"
  ) throws -> CountingGuest {
    let ram: CountingGuest.RAM =
      switch backend {
      case .anonymous: .anonymous
      case .file: .file(bench.directory.file("live.ram"), isShared: true)
      case .memfd: .memfd
      }
    return try CountingGuest(
      "live",
      in: bench.directory,
      qemu: qemu,
      memory: memory,
      cpuCount: cpuCount,
      ram: ram
    )
  }

  /// The guest runs on after the save, and so does the one that is restored, from where it was:
  /// whatever its RAM is to QEMU, by the script and by a stream.
  @Test(arguments: Backend.allCases, QEMURelease.allCases)
  func aRunningGuestIsSavedAndGoesOnTwice(backend: Backend, qemu: QEMURelease) throws {
    let memory = backend == .file ? "512M" : "128M"
    let guest = try start(backend, qemu, cpuCount: 2, memory: memory)
    _ = try guest.waitForCounts(2)
    let monitor = try guest.monitor()
    let settings = try monitor.migrationSettings()
    let earlier = guest.counts()
    let result = try bench.tool.json("save", "qemu:\(guest.monitorPath)", "--name", "live")
    let paused = try #require(result["paused_seconds"] as? Double)
    #expect(paused < 150)
    #expect(try monitor.migrationSettings() == settings)
    let before = guest.counts()
    let onward = try guest.waitForMore(2)
    #expect(Array(onward.dropFirst(before.count)).goOn(from: before))
    try guest.kill()

    // The guest may have printed more between its capture and the end of the save, but not less than before.
    let slack = earlier.slack(until: before)
    for clone in try bench.clones("live", 2) {
      let counts = try clone.waitForCounts(3)
      #expect(counts.areOne(with: before, slack: slack), "\(before) \(counts)")
      try clone.kill()
    }
    let incoming = try CountingGuest(
      "stream",
      in: bench.directory,
      qemu: qemu,
      memory: memory,
      cpuCount: 2,
      incoming: bench.shellCommand("restore", "live", "--format", "qemu-stream", "-o", "-")
    )
    let counts = try incoming.waitForCounts(3)
    #expect(counts.areOne(with: before, slack: slack), "\(before) \(counts)")
    #expect(try bench.tool.verify().succeeded)
  }

  /// A user's settings must not end up in the stream, nor be lost.
  @Test(arguments: QEMURelease.allCases)
  func settingsThatNobodyElseShallUseAreOffForTheSaveOnly(qemu: QEMURelease) throws {
    let guest = try start(.anonymous, qemu)
    let monitor = try guest.monitor()
    let known = try monitor.migrationSettings()
    // QEMU 10 has no "compress" any more.
    let used = ["xbzrle", "compress"].filter { known[$0] != nil }
    try monitor.run(
      "migrate-set-capabilities",
      ["capabilities": used.map { ["capability": $0, "state": true] }]
    )
    try monitor.run("migrate-set-parameters", ["max-bandwidth": 12_345_678])
    let settings = try monitor.migrationSettings()
    _ = try guest.waitForCounts(1)
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "left", "--leave-stopped")
    #expect(try monitor.migrationSettings() == settings)
    #expect(try monitor.status() == "postmigrate")
    // QEMU does not migrate twice without a run between.
    let twice = try bench.tool.run("save", "qemu:\(guest.monitorPath)")
    #expect(twice.ending == .exit(69))
    #expect(twice.standardError.contains("cont"))
    // A guest that does not run is saved as well, and stays stopped.
    try monitor.run("cont")
    try monitor.run("stop")
    let result = try bench.tool.json("save", "qemu:\(guest.monitorPath)", "--name", "again")
    #expect(result["paused_seconds"] is NSNull)
    #expect(try monitor.status() == "postmigrate")
    #expect(try monitor.migrationSettings() == settings)
    // After a migration with postcopy that fails, QEMU 7.2 asks for a return path in every stream.
    try monitor.run("cont")
    let postcopy = ["capability": "postcopy-ram", "state": true] as [String: Any]
    try monitor.run("migrate-set-capabilities", ["capabilities": [postcopy]])
    #expect(throws: TestSetupError.self) { try monitor.migrate(to: "exec:true") }
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "after-postcopy")
    try monitor.run(
      "migrate-set-capabilities",
      ["capabilities": [postcopy.merging(["state": false]) { $1 }]]
    )
    // What can be told before is: the guest must not even be stopped.
    _ = try monitor.status()
    let stopCount = monitor.stopCount
    #expect(stopCount > 0)
    for (code, options) in [
      (73, ["--name", "left"]), (65, ["--region", "gpa=0,size=64M"]), (66, ["--parent", "absent"]),
    ] {
      let outcome = try bench.tool.start(["save", "qemu:\(guest.monitorPath)"] + options).wait()
      #expect(outcome.ending == .exit(Int32(code)), "\(outcome)")
    }
    #expect(try monitor.status() == "running")
    #expect(monitor.stopCount == stopCount)
    _ = try guest.waitForMore(2)
    #expect(try monitor.migrationSettings() == settings)
  }

  /// However and whenever `vmckpt` ends, the guest must run and its settings be as they were.
  @Test(arguments: [Backend.anonymous, .file], QEMURelease.allCases)
  func theGuestOutlivesAKilledSave(backend: Backend, qemu: QEMURelease) throws {
    let guest = try start(backend, qemu)
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    let settings = try monitor.migrationSettings()
    var generator = TestGenerator(seed: 8)
    for round in 0..<soakRounds(8) {
      let save = try bench.tool.start(["save", "qemu:\(guest.monitorPath)"])
      usleep(UInt32(generator.int(5_000...700_000)))
      save.send(round % 3 == 2 ? 15 : 9)
      _ = try save.wait()
      try waitUntil("round \(round): the guest runs as before") {
        try monitor.status() == "running" && monitor.migrationSettings() == settings
      }
      _ = try guest.waitForMore(2)
      if exists(bench.storePath) { #expect(try bench.tool.verify().succeeded, "round \(round)") }
    }
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "last")
    #expect(bench.leftovers.isEmpty)
    let clone = try bench.clones("last", 1)[0]
    #expect(try clone.waitForCounts(2)[0].nonce == guest.counts()[0].nonce)
  }

  /// Ctrl-Z in the midst of a save must not leave the guest stopped for as long as its user is away;
  /// and what was read of RAM while it ran on must not become a snapshot.
  ///
  /// The signal comes as soon as the guest is stopped, before its RAM is read.
  @Test(arguments: [SIGSTOP, SIGTSTP], QEMURelease.allCases)
  func aStoppedSaveLetsItsGuestGoOnAndFails(signal: Int32, qemu: QEMURelease) throws {
    let guest = try start(.file, qemu)
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    let settings = try monitor.migrationSettings()
    try bench.save("other", sampleRAM(4))
    // The guest may have gone on before the signal: then there was nothing to end.
    var ended: ProcessOutcome?
    for _ in 0..<Self.attemptCount {
      let save = try startSaveAndWaitForStop(guest, monitor)
      save.send(signal)
      try save.waitUntilItIsStopped()
      let isPaused = try isPaused(monitor)
      try waitUntil("the guest goes on") { try monitor.status() == "running" }
      // The guest goes on first.
      try waitUntil("the settings are put back") { try monitor.migrationSettings() == settings }
      save.send(SIGCONT)
      let outcome = try save.wait()
      ended = outcome
      guard !isPaused, outcome.succeeded else { break }
      try bench.tool.succeed("delete", "live")
    }
    let outcome = try #require(ended)
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(
      outcome.standardError.hasPrefix(
        "vmckpt: the save was stopped while the VM was paused, and the VM was let go on; save again"
      ),
      "\(outcome)"
    )
    #expect(try bench.tool.snapshotNames() == ["other"])
    #expect(try bench.tool.verify().succeeded)
    #expect(try monitor.status() == "running")
    #expect(try monitor.migrationSettings() == settings)
    _ = try guest.waitForMore(2)
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "again")
  }

  /// Whether the guest of a save that is stopped is, too. What the save has asked for just before is done by then.
  private func isPaused(_ monitor: QMPConnection) throws -> Bool {
    usleep(20_000)
    return try monitor.status() != "running"
  }

  /// How often a save may have let its guest go on before a signal that was to come while the guest is stopped.
  private static let attemptCount = 20

  /// Starts a save of the snapshot `live`, and waits until the guest is stopped.
  private func startSaveAndWaitForStop(
    _ guest: CountingGuest,
    _ monitor: QMPConnection
  ) throws -> ChildProcess {
    for _ in 0..<Self.attemptCount {
      let save = try bench.tool.start(["save", "qemu:\(guest.monitorPath)", "--name", "live"])
      var isStopped = false
      try waitUntil("the guest is stopped") {
        isStopped = try monitor.status() != "running"
        return isStopped || !save.isRunning
      }
      if isStopped { return save }
      // It may have been stopped between two looks.
      let outcome = try save.wait()
      guard outcome.succeeded else { throw TestSetupError("the save has ended: \(outcome)") }
      try bench.tool.succeed("delete", "live")
    }
    throw TestSetupError("the guest was never seen to be stopped")
  }

  /// A moment, as a debugger or a busy shell may stop a process for, costs nothing.
  @Test(arguments: QEMURelease.allCases)
  func aSaveThatIsStoppedForAMomentSucceeds(qemu: QEMURelease) throws {
    let guest = try start(.file, qemu)
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    try bench.save("other", sampleRAM(4))
    var wasStopped = false
    for _ in 0..<Self.attemptCount where !wasStopped {
      let save = try startSaveAndWaitForStop(guest, monitor)
      let start = monotonicSeconds()
      save.send(SIGSTOP)
      usleep(800_000)
      wasStopped = try monitor.status() != "running"
      save.send(SIGCONT)
      let stoppedSeconds = monotonicSeconds() - start
      let outcome = try save.wait()
      if stoppedSeconds < 1.6 {
        expectSuccess(outcome)
      } else {
        // That was no moment on this machine: after two seconds the guest is let go on.
        #expect(outcome.succeeded || outcome.ending == .exit(69), "\(outcome)")
        wasStopped = wasStopped && outcome.succeeded
      }
      if !wasStopped, outcome.succeeded { try bench.tool.succeed("delete", "live") }
    }
    #expect(wasStopped)
    #expect(try bench.tool.snapshotNames() == ["other", "live"])
    #expect(try monitor.status() == "running")
  }

  /// Another save of the same store may take long, and the guest must not stand still for it. The
  /// other one waits for its source here.
  @Test(arguments: QEMURelease.allCases)
  func theGuestRunsOnWhileAnotherSaveHasTheStore(qemu: QEMURelease) throws {
    let guest = try start(.file, qemu)
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    let settings = try monitor.migrationSettings()
    let pipe = try ChildPipe()
    let other = try bench.tool.start(
      ["save", "-", "--name", "other"],
      input: .descriptor(pipe.reader)
    )
    try waitUntil("the other save has begun") {
      try exists(bench.storePath)
        && bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    func expectRunning(_ save: ChildProcess, forSeconds seconds: Double) throws {
      let deadline = monotonicSeconds() + seconds
      while monotonicSeconds() < deadline {
        #expect(try monitor.status() == "running")
        usleep(5000)
      }
      #expect(save.isRunning)
    }
    let interrupted = try bench.tool.start(["save", "qemu:\(guest.monitorPath)"])
    try expectRunning(interrupted, forSeconds: 0.5)
    interrupted.send(2)
    #expect(try !interrupted.wait().succeeded)
    #expect(try monitor.status() == "running")
    #expect(monitor.stopCount == 0)
    #expect(try monitor.migrationSettings() == settings)

    let waiting = try bench.tool.start(
      ["save", "qemu:\(guest.monitorPath)", "--name", "live", "--json"]
    )
    try expectRunning(waiting, forSeconds: 2)
    #expect(monitor.stopCount == 0)
    let release = monotonicSeconds()
    try pipe.write(sampleRAM(4))
    pipe.closeWriter()
    #expect(try other.wait().succeeded)
    let result = try waiting.wait()
    expectSuccess(result)
    let paused = try #require(try result.jsonObject()["paused_seconds"] as? Double)
    #expect(paused < monotonicSeconds() - release)
    #expect(try monitor.status() == "running")
    #expect(monitor.stopCount == 1)
    #expect(try bench.tool.snapshotNames() == ["other", "live"])
    _ = try guest.waitForMore(2)
  }

  /// QEMU may end while it is captured: that must be told at once, and leave nothing half done.
  @Test(arguments: [Backend.anonymous, .memfd], QEMURelease.allCases)
  func aGuestThatEndsWhileItIsSavedIsTold(backend: Backend, qemu: QEMURelease) throws {
    let guest = try start(backend, qemu)
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    let save = try bench.tool.start(["save", "qemu:\(guest.monitorPath)"])
    // For a background snapshot it is stopped for a moment only.
    try waitUntil("the guest was stopped") {
      _ = try monitor.status()
      return monitor.stopCount > 0
    }
    let end = monotonicSeconds()
    try guest.kill()
    let outcome = try save.wait()
    // All may have been there when QEMU ended.
    let isSaved =
      outcome.succeeded || outcome.standardError.contains("the snapshot is saved, but")
    #expect(outcome.ending == .exit(outcome.succeeded ? 0 : 69), "\(outcome)")
    // QEMU would be given 30 seconds for an answer.
    #expect(monotonicSeconds() - end < 25)
    let names = exists(bench.storePath) ? try bench.tool.snapshotNames() : []
    #expect(names.count == (isSaved ? 1 : 0))
    if exists(bench.storePath) { #expect(try bench.tool.verify().succeeded) }
    #expect(bench.leftovers.isEmpty)
    #expect(exists(bench.storePath + "-lock") == exists(bench.storePath))
  }

  /// RAM on both sides of the hole below 4 GiB, sparse; and ten clones of it from one image.
  @Test(arguments: QEMURelease.allCases)
  func tenClonesOfALargeGuestRunFromOneImage(qemu: QEMURelease) throws {
    let guest = try start(.file, qemu, memory: "3712M")
    _ = try guest.waitForCounts(2)
    let earlier = guest.counts()
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "large")
    let shown = try bench.tool.json("show", "large")
    let regions = shown["memory_regions"] as? [[String: Any]] ?? []
    #expect(regions.map { $0["gpa"] as? Int } == [0, 0x1_0000_0000])
    let before = guest.counts()
    try guest.kill()
    let clones = try bench.clones("large", 10)
    for clone in clones {
      let counts = try clone.waitForCounts(2, timeoutSeconds: 480)
      #expect(counts.areOne(with: before, slack: earlier.slack(until: before)))
    }
  }

  /// Clones run from the very bytes of the directory: one that is wrong in RAM or in the devices' state
  /// must show.
  @Test(arguments: QEMURelease.allCases)
  func aByteThatIsWrongInADirectoryIsNoticed(qemu: QEMURelease) throws {
    let guest = try start(.memfd, qemu)
    let nonce = try guest.waitForCounts(2)[0].nonce
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "live")
    try guest.kill()
    let directory = try bench.restoredDirectory("live")
    let (ramPath, statePath) = ("\(directory)/ram", "\(directory)/device.state")
    let (ram, state) = (Data(try readFile(ramPath)), Data(try readFile(statePath)))
    try writeFile(ramPath, Array(ram.withWrong(nonce: nonce)))
    let forgetful = try bench.clones(from: directory, 1)[0]
    #expect(try forgetful.waitForCounts(2).allSatisfy { $0.nonce != nonce })
    try forgetful.kill()
    try writeFile(ramPath, Array(ram))
    try writeFile(statePath, Array(state.withWrongInterruptTable()))
    let lost = try bench.clones(from: directory, 1)[0]
    #expect(throws: TestSetupError.self) { try lost.waitForCounts(2, timeoutSeconds: 5) }
    try lost.kill()
    try writeFile(statePath, Array(state))
    let sound = try bench.clones(from: directory, 1)[0]
    #expect(try sound.waitForCounts(2).allSatisfy { $0.nonce == nonce })
  }

  /// QEMU refuses to migrate some devices; it must not be left waiting, nor the guest.
  @Test(arguments: QEMURelease.allCases)
  func aGuestThatCannotMigrateIsRefusedAndRunsOn(qemu: QEMURelease) throws {
    let guest = try CountingGuest(
      "unmigratable",
      in: bench.directory,
      qemu: qemu,
      devices: [
        "-drive", "if=none,id=d,driver=null-co", "-device", "nvme,drive=d,serial=1", "-monitor",
        "unix:qmp-for-people,server=on,wait=off",
      ]
    )
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    let settings = try monitor.migrationSettings()
    let outcome = try bench.tool.start(["save", "qemu:\(guest.monitorPath)"])
      .wait()
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(outcome.standardError.contains("nvme"))
    #expect(!exists(bench.storePath))
    #expect(!exists(bench.storePath + "-lock"))
    let people = try bench.tool.run("save", "qemu:\(guest.monitorPath)-for-people")
    #expect(people.ending == .exit(69))
    #expect(people.standardError.contains("speaks another protocol than QMP"))
    #expect(try monitor.migrationSettings() == settings)
    _ = try guest.waitForMore(2)
  }

  @Test func saysWhatIsWrongWithAMonitor() throws {
    let absent = try bench.tool.run("save", "qemu:\(bench.directory.file("absent"))")
    #expect(absent.ending == .exit(66))
    #expect(absent.standardError.contains("does not exist; start QEMU with -qmp"))
    let file = try bench.write("file", "no socket")
    let noSocket = try bench.tool.run("save", "qemu:\(file)")
    #expect(noSocket.ending == .exit(64))
    #expect(noSocket.standardError.contains("is not a socket; start QEMU with -qmp"))
    let usage = try bench.tool.run("save", file, "--leave-stopped")
    #expect(usage.ending == .exit(64))
    #expect(!exists(bench.storePath))
  }
}
