import Testing
import VMCheckpointTestSupport

/// A monitor that says what QEMU never would, while a guest is stopped and waits.
@Suite struct HostileMonitorTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func save(
    _ qemu: FakeQEMU,
    environment: [String: String] = [:],
    timeoutSeconds: Double = patienceSeconds
  ) throws -> ProcessOutcome {
    try run(
      bench.tool.commandLine(["save", "qemu:\(qemu.path)", "--name", "s"]),
      environment: environment,
      timeoutSeconds: timeoutSeconds
    )
  }

  /// The test's own monitor is good enough for a save that succeeds.
  @Test func aVMIsSavedThroughTheFakeMonitor() throws {
    let qemu = try FakeQEMU(in: bench.directory)
    let outcome = try save(qemu)
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.text.contains("Paused         5 ms (RAM was sent before)\n"), "\(outcome)")
    #expect(try bench.tool.verify().succeeded)
  }

  /// Without its guard a VM stays stopped for ever when the save is killed.
  @Test(arguments: [
    "fcntl", "posix_spawn_file_actions_init", "posix_spawn_file_actions_addopen",
    "posix_spawn_file_actions_adddup2", "posix_spawnattr_init", "posix_spawnattr_setflags",
    "posix_spawn",
  ])
  func noVMIsStoppedWithoutItsGuard(function: String) throws {
    let qemu = try FakeQEMU(in: bench.directory)
    let faults = try FaultLibrary()
    let outcome = try save(qemu, environment: faults.environment(spawnFailure: function))
    #expect(faults.calls.contains("spawn failure \(function)"))
    #expect(outcome.ending == .exit(71), "\(outcome)")
    #expect(
      outcome.standardError.contains(
        "cannot start the process that guards the VM: Too many open files"
      ),
      "\(outcome)"
    )
    #expect(!qemu.commands.contains { ["stop", "getfd", "migrate"].contains($0) })
  }

  /// Lines that keep coming and are no answer, so that there is always something to read.
  enum Flood: String, CaseIterable {
    case notJSON = "no object"
    case events = #"{"event": "NIC", "timestamp": {"seconds": 1, "microseconds": 2}}"#

    var bytes: [UInt8] { Array(String(repeating: rawValue + "\n", count: 1000).utf8) }
  }

  @Test(.slow, arguments: Flood.allCases)
  func aMonitorThatOnlyChattersIsGivenUp(flood: Flood) throws {
    let qemu = try FakeQEMU(in: bench.directory) { name, _ in
      name == "greeting" ? .flood(flood.bytes) : nil
    }
    let outcome = try save(qemu)
    #expect(outcome.ending == .exit(69), "\(outcome)")
  }

  /// The guest is stopped by then.
  @Test(.slow) func aFloodInPlaceOfAReplyEndsTheSave() throws {
    let qemu = try FakeQEMU(in: bench.directory) { name, _ in
      name == "cont" ? .flood(Flood.notJSON.bytes) : nil
    }
    let outcome = try save(qemu)
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(outcome.standardError.contains("gave no answer to cont"), "\(outcome)")
  }

  /// Moments between which nobody can have saved anything.
  @Test(arguments: [
    (#"{"seconds": 0, "microseconds": 0}"#, #"{"seconds": 1e300, "microseconds": 0}"#),
    (#"{"seconds": -1e308, "microseconds": 0}"#, #"{"seconds": 1e308, "microseconds": 1e308}"#),
    (
      #"{"seconds": -9223372036854775808, "microseconds": 0}"#,
      #"{"seconds": 9223372036854775807, "microseconds": 0}"#
    ),
  ])
  func aMadeUpPauseDoesNotEndTheReport(stopTime: String, resumeTime: String) throws {
    let qemu = try FakeQEMU(in: bench.directory, stopTime: stopTime, resumeTime: resumeTime)
    let outcome = try save(qemu)
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.text.hasPrefix("Saved s in "), "\(outcome)")
    #expect(!outcome.text.contains("Paused"), "\(outcome)")
    let json = try run(
      bench.tool.commandLine(["save", "qemu:\(qemu.path)", "--name", "j", "--json"])
    )
    #expect(json.succeeded, "\(json)")
    #expect(try json.jsonObject()["paused_seconds"] is Double == false)
  }

  /// Blocks of RAM that no number of bytes can hold together.
  @Test func sizesThatNoMachineHasDoNotEndTheProcess() throws {
    let qemu = try FakeQEMU(in: bench.directory) { name, arguments in
      switch (name, arguments["property"]) {
      case ("qom-get", "memory-backend"): .result(#""/objects/m0""#)
      case ("qom-get", "size"): .result("9223372036854775808")
      case ("qom-get", "addr") where arguments["path"]?.contains("below") == true: .result("0")
      case ("query-memory-devices", _):
        .result(
          "["
            + (1...3).map {
              #"{"type": "dimm", "data": {"memdev": "/objects/m\#($0)", "addr": \#($0), "id": "d\#($0)"}}"#
            }.joined(separator: ", ") + "]"
        )
      default: nil
      }
    }
    let outcome = try save(qemu)
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(
      outcome.standardError.contains("where the VM's plugged memory lies cannot be read from QEMU"),
      "\(outcome)"
    )
  }
}
