import Foundation
import Glibc
import Synchronization
import Testing
import VMCheckpointTestSupport

/// Machines whose RAM QEMU sends, by a background snapshot where it can. Then the machine waits for the save at each
/// write to a page that was not sent, and must not wait for one that is gone.
@Suite(.serialized, .guest) struct BackgroundSnapshotTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// A machine that writes without pause, beside 64 MiB that take a while to send.
  private func start(_ qemu: QEMURelease) throws -> IdleMachine {
    let machine = try IdleMachine(
      "m",
      in: bench.directory,
      qemu: qemu,
      files: ["firmware": RacingFirmware.image, "data": incompressibleRAM(16384)],
      arguments: [
        "-bios", "firmware", "-m", "128M",
        "-device", "loader,file=data,addr=0x1000000,force-raw=on",
      ]
    )
    try machine.monitor().run("cont")
    return machine
  }

  private func isSending(_ monitor: QMPConnection) throws -> Bool {
    let migration = try monitor.run("query-migrate") as? [String: Any]
    return migration?["status"] as? String == "active"
  }

  /// Starts a save, and waits until QEMU sends.
  private func startSave(_ machine: IdleMachine, _ monitor: QMPConnection) throws -> ChildProcess {
    for _ in 0..<Self.attemptCount {
      let save = try bench.tool.start(["save", "qemu:\(machine.monitorPath)"])
      var isSeen = false
      try waitUntil("QEMU sends") {
        isSeen = try isSending(monitor)
        return isSeen || !save.isRunning
      }
      if isSeen { return save }
      // It may have been over between two looks.
      let outcome = try save.wait()
      guard outcome.succeeded else { throw TestSetupError("the save has ended: \(outcome)") }
      try deleteWhole()
    }
    throw TestSetupError("QEMU was never seen to send")
  }

  /// Deletes the last snapshot, which must be one of one instant.
  private func deleteWhole() throws {
    #expect(RacingFirmware.isOfOneInstant(try bench.restore("latest")))
    try bench.tool.succeed("delete", "latest")
  }

  /// How often a save may be over before a signal that was to come in the midst of it.
  private static let attemptCount = 20

  /// Whatever ends a save, and at whatever moment, a machine that waits for ever is lost.
  @Test(.slow, arguments: QEMURelease.allCases)
  func aMachineDoesNotWaitForASaveThatIsGone(qemu: QEMURelease) throws {
    let machine = try start(qemu)
    defer { try? machine.kill() }
    let monitor = try machine.monitor()
    let settings = try monitor.migrationSettings()
    var generator = TestGenerator(seed: 20)
    for round in 0..<soakRounds(6) {
      let save = try startSave(machine, monitor)
      usleep(UInt32(generator.int(0...250_000)))
      save.send(round % 3 == 2 ? SIGINT : SIGKILL)
      _ = try save.wait()
      try machine.waitUntilItWrites("in round \(round)", by: monitor)
      try waitUntil("round \(round): all is as it was") {
        try monitor.status() == "running" && monitor.migrationSettings() == settings
      }
    }
    let result = try bench.tool.json("save", "qemu:\(machine.monitorPath)", "--name", "last")
    #expect(
      result["pause_method"] as? String == (qemu == .ten ? "background-snapshot" : "stopped")
    )
    #expect(RacingFirmware.isOfOneInstant(try bench.restore("last")))
  }

  /// Nobody reads what QEMU sends while the save is stopped: it must not fill the pipe and wait, with the guest and
  /// its monitor.
  @Test(.slow, arguments: QEMURelease.allCases)
  func aMachineDoesNotWaitForASaveThatIsStopped(qemu: QEMURelease) throws {
    let machine = try start(qemu)
    defer { try? machine.kill() }
    let monitor = try machine.monitor()
    let settings = try monitor.migrationSettings()
    try bench.save("other", sampleRAM(4))
    for round in 0..<soakRounds(2) {
      // All may have been sent before the signal: then there was nothing to end.
      var ended: ProcessOutcome?
      for _ in 0..<Self.attemptCount {
        let save = try startSave(machine, monitor)
        save.send(SIGSTOP)
        try waitUntil("round \(round): the machine runs") { try monitor.status() == "running" }
        try machine.waitUntilItWrites("in round \(round)", by: monitor)
        try waitUntil("round \(round): the settings are put back") {
          try monitor.migrationSettings() == settings
        }
        save.send(SIGCONT)
        let outcome = try save.wait()
        ended = outcome
        guard outcome.succeeded else { break }
        try deleteWhole()
      }
      let outcome = try #require(ended)
      #expect(outcome.ending == .exit(69), "\(outcome)")
      #expect(
        outcome.standardError.hasPrefix("vmckpt: the save was stopped while the VM was paused"),
        "\(outcome)"
      )
      try machine.waitUntilItWrites("in round \(round), continued", by: monitor)
    }
    #expect(try bench.tool.snapshotNames() == ["other"])
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "last")
    #expect(RacingFirmware.isOfOneInstant(try bench.restore("last")))
  }

  /// QEMU says whether its host allows one: a VM must be saved all the same. And one that leaves its guest waiting
  /// when the snapshot fails must not even be asked.
  @Test(arguments: [(7, 2), (9, 2), (10, 0)])
  func aVMWithoutBackgroundSnapshotsIsSavedAllTheSame(major: Int, minor: Int) throws {
    let refusalCount = Mutex(0)
    let isAsked = Mutex(false)
    let qemu = try FakeQEMU(in: bench.directory) { name, _ in
      switch name {
      case "query-version":
        return .result(#"{"qemu": {"major": \#(major), "minor": \#(minor), "micro": 0}}"#)
      case "query-migrate-capabilities":
        return .result(#"[{"capability": "background-snapshot", "state": false}]"#)
      case "migrate-set-capabilities":
        // It is not on before, so that only who wants it on has a reason to set it.
        isAsked.withLock { $0 = true }
        let count = refusalCount.withLock { count -> Int in
          count += 1
          return count
        }
        return count == 1 ? .refusal("Background-snapshot is not supported by host kernel") : nil
      default: return nil
      }
    }
    let outcome = try bench.tool.start(["save", "qemu:\(qemu.path)", "--name", "s", "--json"])
      .wait()
    expectSuccess(outcome)
    #expect(try outcome.jsonObject()["pause_method"] as? String == "pre-copy")
    #expect(isAsked.withLock { $0 } == (major >= 10))
    #expect(try bench.tool.verify().succeeded)
  }
}
