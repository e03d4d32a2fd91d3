import Foundation
import Testing
import VMCheckpointTestSupport

/// Machines of QEMU's that call their RAM otherwise than new ones, or say otherwise where it is.
@Suite(.guest) struct OldMachineTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Old types have a backend's whole path for the name of its block, unless RAM is QEMU's own: "Unknown ramblock".
  @Test(
    "a guest of an old machine type runs again, however its RAM was given",
    arguments: [
      ["-machine", "pc-i440fx-2.12,accel=tcg"],
      ["-machine", "pc-q35-3.1,accel=tcg"],
      ["-machine", "pc-q35-4.0,accel=tcg"],
      [
        "-machine", "pc-i440fx-2.12,accel=tcg", "-m", "32M", "-smp", "2", "-numa",
        "node,mem=16M,cpus=0", "-numa",
        "node,mem=16M,cpus=1",
      ],
      [
        "-machine", "pc-i440fx-3.0,accel=tcg,memory-backend=m", "-object",
        "memory-backend-memfd,id=m,size=16M,share=on",
      ],
      [
        "-machine", "pc-i440fx-3.0,accel=tcg", "-m", "32M", "-smp", "2", "-object",
        "memory-backend-ram,id=a,size=16M", "-object",
        "memory-backend-file,id=b,size=16M,mem-path=b.ram", "-numa",
        "node,memdev=a,cpus=0", "-numa", "node,memdev=b,cpus=1",
      ],
      ["-machine", "pc-i440fx-2.12,accel=tcg", "-mem-path", "/dev/shm"],
    ]
  )
  func oldMachine(_ arguments: [String]) throws {
    let machine = try IdleMachine(
      "machine",
      in: bench.directory,
      files: ["b.ram": []],
      arguments: arguments
    )
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "a")
    try machine.kill()
    let restored = bench.directory.file("restored")
    try bench.tool.succeed("restore", "a", "--format", "qemu", "-o", restored)
    let again = try IdleMachine(
      script: "\(restored)/run.sh",
      workingDirectory: try bench.directory.subdirectory("again")
    )
    defer { try? again.kill() }
    #expect(try ["paused", "prelaunch"].contains(again.awaitRestored().status()))
  }

  @Test("a VM is called as QEMU calls it, and not like every VM's socket")
  func names() throws {
    let machine = try IdleMachine(
      "vm1",
      in: bench.directory,
      arguments: ["-name", "guest=web,debug-threads=on"]
    )
    // Without a name of QEMU's the folder is telling where the file is not.
    let other = try IdleMachine("vm2", in: bench.directory)
    for (place, vm) in [
      // As -qmp has it.
      ("unix:\(machine.monitorPath),server=on", "web"), (other.monitorPath, "vm2"),
    ] {
      let saved = try bench.tool.json("save", "qemu:\(place)")
      #expect(saved["vm"] as? String == vm)
      #expect((saved["name"] as? String)?.hasPrefix("\(vm)-") == true, "\(saved)")
      #expect(saved["parent"] is NSNull)
    }
  }

  @Test("two guests saved from files of one name are two VMs")
  func filesOfOneName() throws {
    for name in ["vm1", "vm2"] {
      let folder = try bench.directory.subdirectory(name)
      try writeFile("\(folder)/memory-ranges", sampleRAM(40))
      let saved = try bench.tool.json("save", "\(folder)/memory-ranges")
      #expect(saved["vm"] as? String == name)
      #expect(saved["parent"] is NSNull)
    }
  }

  @Test(
    "a guest of a QEMU that may not start programs is resumed",
    arguments: ["none", "mount", "postcopy"]
  )
  func sandboxedResume(_ laziness: String) throws {
    let machine = try IdleMachine(
      "machine",
      in: bench.directory,
      arguments: ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
    )
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "a")
    try machine.kill()
    let place = try bench.directory.subdirectory("again")
    // What is behind -- is QEMU's.
    let resumed = try ChildProcess([
      VMCkptTool.path(), "resume", "a", "--lazy", laziness, "--store", bench.storePath, "--",
      "-name", "again",
      "-qmp", "unix:\(place)/own,server=on,wait=off",
    ])
    let monitor = try QMPConnection(path: "\(place)/own")
    try waitUntil("the guest is there") {
      try ["paused", "prelaunch", "running"].contains(monitor.status())
    }
    _ = try monitor.run("quit")
    let outcome = try resumed.wait()
    #expect(outcome.ending == .exit(0), "\(outcome)")
  }

  @Test("a QEMU that may not start programs sends its stream to a socket")
  func sandboxed() throws {
    let machine = try IdleMachine(
      "machine",
      in: bench.directory,
      arguments: ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
    )
    let socket = bench.directory.file("in.sock")
    let saving = try bench.tool.start([
      "save", "qemu-stream:unix:\(socket)", "--name", "a", "--vm", "web",
    ])
    try waitUntil("somebody listens at the socket") { isListening(socket) }
    #expect(try fileMode(socket) & 0o077 == 0)
    let monitor = try machine.monitor()
    _ = try monitor.run("migrate", ["uri": "unix:\(socket)"])
    let outcome = try saving.wait()
    #expect(outcome.succeeded, "\(outcome)")
    #expect(!exists(socket))
    #expect(try bench.tool.snapshotNames() == ["a"])
    // A name in use is refused, and what is there stays.
    try writeFile(socket, [1])
    let refused = try bench.tool.run("save", "qemu-stream:unix:\(socket)")
    expectFailure(
      refused,
      73,
      "cannot make the socket \"\(socket)\": Address already in use; there is a file of that name; remove it if "
        + "nobody listens there"
    )
    #expect(try readFile(socket) == [1])
  }
}
