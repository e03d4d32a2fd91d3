import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Machines of a real QEMU's that write to RAM at each instruction, and whose snapshots must be of one instant.
@Suite(.serialized, .guest) struct InstantTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// How a machine's RAM is made.
  enum Backend: String, CaseIterable, Sendable {
    case own, file, memfd
  }

  private func start(_ backend: Backend, _ qemu: QEMURelease) throws -> IdleMachine {
    let object: String? =
      switch backend {
      case .own: nil
      case .file: "memory-backend-file,id=pc.ram,size=16M,mem-path=ram,share=on"
      case .memfd: "memory-backend-memfd,id=pc.ram,size=16M,share=on"
      }
    let machine = try IdleMachine(
      "m",
      in: bench.directory,
      qemu: qemu,
      files: ["firmware": RacingFirmware.image],
      arguments: ["-bios", "firmware"]
        + (object.map { ["-object", $0, "-machine", "memory-backend=pc.ram"] } ?? [])
    )
    try machine.monitor().run("cont")
    return machine
  }

  private func method(_ backend: Backend, _ qemu: QEMURelease) -> String {
    switch (backend, qemu) {
    // Its guest would not go on after one that fails.
    case (.own, .system): "stopped"
    case (.own, .ten): "background-snapshot"
    case (.file, _), (.memfd, .system): "two-pass"
    // It sends a memfd that others share.
    case (.memfd, .ten): "stopped"
    }
  }

  /// A word of another moment is a crash, or worse, in the guest that is restored.
  @Test(arguments: Backend.allCases, QEMURelease.allCases)
  func aMachineThatWritesAtEachInstructionIsSavedAsOfOneInstant(
    backend: Backend,
    qemu: QEMURelease
  ) throws {
    let machine = try start(backend, qemu)
    defer { try? machine.kill() }
    var last: UInt32 = 0
    for round in 1...4 {
      try machine.waitUntilItWrites()
      let result = try bench.tool.json("save", "qemu:\(machine.monitorPath)", "--name", "s\(round)")
      #expect(result["pause_method"] as? String == method(backend, qemu))
      #expect(result["paused_seconds"] is Double)
      let ram = try bench.restore("s\(round)")
      #expect(RacingFirmware.isOfOneInstant(ram), "\(RacingFirmware.words(of: ram))")
      let words = RacingFirmware.words(of: ram)
      #expect(words[0] > last, "the machine has not run since the save before")
      last = words[0]
    }
    #expect(try machine.monitor().status() == "running")
    #expect(try bench.tool.verify().succeeded)
  }

  /// What is restored goes on from the very instruction: devices and RAM are of one moment.
  @Test(arguments: [Backend.own, .file], QEMURelease.allCases)
  func whatIsRestoredGoesOnFromThatInstant(backend: Backend, qemu: QEMURelease) throws {
    let machine = try start(backend, qemu)
    try machine.waitUntilItWrites()
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "s")
    let saved = RacingFirmware.words(of: try bench.restore("s"))
    let firmware = "\(machine.workingDirectory)/firmware"
    try machine.kill()
    let directory = bench.directory.file("restored")
    try bench.tool.succeed("restore", "s", "--format", "qemu", "-o", directory)
    let place = try bench.directory.subdirectory("clone")
    try writeFile("\(place)/firmware", try readFile(firmware))
    let clone = try IdleMachine(script: "\(directory)/run.sh", workingDirectory: place)
    defer { try? clone.kill() }
    try waitUntil("the machine runs") { try clone.monitor().status() == "running" }
    try clone.waitUntilItWrites()
    try bench.tool.succeed("save", "qemu:\(clone.monitorPath)", "--name", "later")
    let later = try bench.restore("later")
    #expect(RacingFirmware.isOfOneInstant(later))
    // Its counter is in a register of the CPU's.
    #expect(RacingFirmware.words(of: later)[0] > saved[0])
  }
}
