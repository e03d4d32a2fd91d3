import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Disks are not captured. A restored guest on a disk that moved on destroys what is on it, and two guests on one
/// disk do as well.
@Suite(.serialized, .guest) struct QEMUDiskTests {
  private let bench: Workbench
  private let disk: String

  init() throws {
    bench = try Workbench()
    // A name that needs care in shells, in QEMU's options and in JSON.
    disk = bench.directory.file("a, disk's \"$(touch pwned)\".img")
    try writeFile(disk, sampleRAM(2048))
  }

  private var driveArguments: [String] {
    ["-drive", "file=\(disk.replacing(",", with: ",,")),format=raw,if=virtio,id=d0"]
  }

  /// Runs the script of a restored directory that must refuse.
  private func refusal(
    _ directory: String,
    _ arguments: String...,
    code: Int32
  ) throws -> String {
    let place = try bench.directory.subdirectory(UUID().uuidString)
    let outcome = try run(
      ["\(directory)/run.sh"] + arguments,
      environment: ["VMCKPT_WORKING_DIRECTORY": place, "TMPDIR": bench.directory.path]
    )
    #expect(outcome.ending == .exit(code), "\(outcome)")
    #expect(directoryEntries(place).isEmpty, "QEMU ran")
    #expect(overlayFolders.isEmpty)
    return outcome.standardError
  }

  private var overlayFolders: [String] {
    bench.directory.entries.filter { $0.hasPrefix("vmckpt-overlays.") }
  }

  /// Runs a restored machine that has never run.
  private func start(_ directory: String, _ arguments: String...) throws -> IdleMachine {
    try IdleMachine(
      script: "\(directory)/run.sh",
      arguments: arguments,
      workingDirectory: try bench.directory.subdirectory(UUID().uuidString),
      environment: ["TMPDIR": bench.directory.path]
    )
  }

  /// Lets QEMU itself write a page to a disk, as the guest would, and waits until it is in `file`.
  private func write(
    _ monitor: QMPConnection,
    _ device: String,
    pattern: UInt8,
    to file: String
  ) throws {
    let line = "qemu-io \(device) \"write -P \(pattern) 0 4096\""
    try monitor.run("human-monitor-command", ["command-line": line])
    let page = Data(repeating: pattern, count: 4096)
    try waitUntil("the page is written") { try Data(readFile(file)).range(of: page) != nil }
  }

  /// The overlay of the only machine that has one.
  private func overlay() throws -> String {
    let folder = bench.directory.file(try #require(overlayFolders.first))
    try #require(overlayFolders.count == 1 && directoryEntries(folder) == ["disk.0"])
    return "\(folder)/disk.0"
  }

  /// A guest that counts aloud, saved while it ran: what happens to its disk decides what its clones may do.
  @Test(arguments: QEMURelease.allCases)
  func aGuestGoesOnOnlyOnTheDiskThatItHad(qemu: QEMURelease) throws {
    let guest = try CountingGuest("live", in: bench.directory, qemu: qemu, devices: driveArguments)
    _ = try guest.waitForCounts(2)
    let earlier = guest.counts()
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "live")
    let directory = try bench.restoredDirectory("live")
    #expect(
      try refusal(directory, code: 75).contains("is in use by another program; end it first")
    )
    #expect(
      try refusal(directory, "--disks", "overlay", code: 75)
        .contains("is in use by another program; end it first: it writes to the disk")
    )
    _ = try guest.waitForMore(1)
    try guest.kill()
    let before = guest.counts()
    // It went on since it was saved, for as long as all that took.
    let slack = earlier.slack(until: before)
    let contents = try readFile(disk)

    func clone(_ arguments: String...) throws -> CountingGuest {
      try CountingGuest(
        script: "\(directory)/run.sh",
        arguments: arguments,
        workingDirectory: try bench.directory.subdirectory(UUID().uuidString),
        environment: ["TMPDIR": bench.directory.path]
      )
    }
    // Clones side by side, each of which writes to a disk of its own.
    let clones = try [clone("--disks", "overlay"), clone("--disks=overlay")]
    for clone in clones { #expect(try clone.waitForCounts(3).areOne(with: before, slack: slack)) }
    #expect(overlayFolders.count == 2)
    for (index, clone) in clones.enumerated() {
      let line = "qemu-io d0 \"write -P \(index + 1) 0 4096\""
      try clone.monitor().run("human-monitor-command", ["command-line": line])
    }
    for (pattern, own) in [1, 2].map({ Data(repeating: $0, count: 4096) }).enumerated() {
      try waitUntil("overlay \(pattern) is written") {
        try overlayFolders.filter {
          try Data(readFile(bench.directory.file("\($0)/disk.0"))).range(of: own) != nil
        }.count == 1
      }
    }
    #expect(try readFile(disk) == contents)
    // Whoever reads the disk relies on its staying as it is.
    #expect(
      try run(
        ["\(directory)/run.sh"],
        environment: ["VMCKPT_WORKING_DIRECTORY": bench.directory.path]
      ).ending == .exit(75)
    )
    for clone in clones { try clone.kill() }
    try waitUntil("the overlays are removed") { overlayFolders.isEmpty }
    #expect(try readFile(disk) == contents)

    let onward = try clone()
    #expect(try onward.waitForCounts(3).areOne(with: before, slack: slack))
    try write(onward.monitor(), "d0", pattern: 0x90, to: disk)
    try onward.kill()
    #expect(try readFile(disk) != contents)
    // The disk has moved on.
    for mode in ["check", "overlay"] {
      let said = try refusal(directory, "--disks", mode, code: 65)
      #expect(said.contains("has changed since the VM was saved: it was written at 20"), "\(said)")
      #expect(said.contains("use it as it is with --disks as-is"), "\(said)")
    }
    let asIs = try clone("--disks", "as-is")
    #expect(try asIs.waitForCounts(2).areOne(with: before, slack: slack))
    try asIs.kill()
    #expect(!exists(bench.directory.file("pwned")))
  }

  /// Saves a machine with these disks, ends it, and restores it as a directory.
  private func restored(_ arguments: [String], qemu: QEMURelease = .system) throws -> String {
    let machine = try IdleMachine(
      "machine",
      in: bench.directory,
      qemu: qemu,
      arguments: arguments
    )
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "machine")
    try machine.kill()
    return try bench.restoredDirectory("machine")
  }

  private func escaped(_ path: String) -> String { path.replacing(",", with: ",,") }

  private func inJSON(_ text: String) throws -> String {
    String(decoding: try JSONEncoder().encode(text), as: UTF8.self)
  }

  /// Every way to give a disk, with a base of each, and what its device is called by the monitor.
  enum Way: String, CaseIterable, Sendable {
    case drive, hda, blockdev, nested, json, twoNodes, fileNode, pflash
  }

  private func arguments(_ way: Way) throws -> (arguments: [String], device: String) {
    switch way {
    case .drive:
      return (["-drive", "if=virtio,cache=none,file=\(escaped(disk)),format=raw"], "virtio0")
    case .hda: return (["-hda", disk], "ide0-hd0")
    case .pflash:
      return (["-drive", "if=pflash,format=raw,file=\(escaped(disk))"], "pflash0")
    case .blockdev, .nested, .json, .twoNodes, .fileNode:
      var nodes: [String] = []
      switch way {
      case .blockdev:
        nodes = [
          "-blockdev", "driver=file,filename=\(escaped(disk)),node-name=st,auto-read-only=on",
          "-blockdev", "raw,node-name=n0,file=st,cache.direct=off",
        ]
      case .nested:
        nodes = [
          "-blockdev",
          "driver=raw,node-name=n0,file.driver=file,file.filename=\(escaped(disk)),discard=unmap",
        ]
      case .json:
        nodes = [
          "-blockdev",
          #"{"driver":"raw","node-name":"n0","cache":{"direct":false},"file":{"driver":"file","filename":"#
            + (try inJSON(disk)) + "}}",
        ]
      case .twoNodes:
        nodes = [
          "-blockdev",
          #"{"driver":"file","node-name":"s.t-1","auto-read-only":true,"discard":"unmap","filename":"#
            + (try inJSON(disk)) + "}",
          "-blockdev",
          #"{"node-name":"n0","read-only":false,"driver":"raw","file":"s.t-1"}"#,
        ]
      default:
        nodes = ["-blockdev", "driver=file,node-name=n0,filename=\(escaped(disk))"]
      }
      return (
        nodes + ["-device", "virtio-blk-pci,drive=n0,id=v0"],
        "-d /machine/peripheral/v0/virtio-backend"
      )
    }
  }

  @Test(arguments: Way.allCases, QEMURelease.allCases)
  func anOverlayTakesTheDisksPlace(way: Way, qemu: QEMURelease) throws {
    let (arguments, device) = try arguments(way)
    let directory = try restored(arguments, qemu: qemu)
    let contents = try readFile(disk)
    let machine = try start(directory, "--disks", "overlay")
    let monitor = try machine.awaitRestored()
    // Images are given up by who migrated them until the machine goes on.
    try monitor.run("cont")
    try write(monitor, device, pattern: 0x77, to: overlay())
    try machine.kill()
    try waitUntil("the overlay is removed") { overlayFolders.isEmpty }
    #expect(try readFile(disk) == contents)
    // And without one it is the disk itself.
    let direct = try start(directory)
    let other = try direct.awaitRestored()
    try other.run("cont")
    try write(other, device, pattern: 0x78, to: disk)
    try direct.kill()
    #expect(try readFile(disk) != contents)
    #expect(!exists(bench.directory.file("pwned")))
  }

  /// A qcow2 image on a base: a change of the base changes the disk.
  @Test(arguments: QEMURelease.allCases)
  func aChainIsCheckedDownToItsBase(qemu: QEMURelease) throws {
    let top = bench.directory.file("top.qcow2")
    try makeOverlay(top, of: disk)
    let directory = try restored(
      ["-drive", "file=../top.qcow2,if=virtio,format=qcow2"],
      qemu: qemu
    )
    let shown = try bench.tool.json("show", "machine")["qemu"] as? [String: Any]
    let disks = try #require(shown?["disks"] as? [[String: Any]])
    #expect(disks.count == 1)
    let images = try #require(disks[0]["images"] as? [[String: Any]])
    #expect(images.map { $0["file"] as? String } == ["../top.qcow2", disk])
    #expect(images.map { $0["format"] as? String } == ["qcow2", "raw"])
    var status = stat()
    try #require(stat(disk, &status) == 0)
    #expect(images[1]["bytes"] as? Int == status.st_size)
    #expect(images[1]["inode"] as? UInt64 == UInt64(status.st_ino))
    #expect(
      images[1]["mtime_ns"] as? Int
        == status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
    )
    let text = try bench.tool.run("show", "machine").text
    #expect(text.contains("\nDisks, not captured\n"), "\(text)")

    let machine = try start(directory, "--disks", "overlay")
    let monitor = try machine.awaitRestored()
    try monitor.run("cont")
    try write(monitor, "virtio0", pattern: 0x77, to: overlay())
    try machine.kill()
    try waitUntil("the overlay is removed") { overlayFolders.isEmpty }
    var contents = try readFile(disk)
    contents[contents.count - 1] ^= 1
    try writeFile(disk, contents)
    #expect(try refusal(directory, code: 65).contains("has changed since the VM was saved"))
  }

  /// Makes an image on a base, by QEMU.
  private func makeOverlay(_ path: String, of base: String) throws {
    let machine = try IdleMachine("maker", in: bench.directory)
    let monitor = try machine.monitor()
    try monitor.run(
      "blockdev-add",
      ["driver": "raw", "node-name": "b", "file": ["driver": "file", "filename": base]]
    )
    try monitor.run(
      "blockdev-snapshot-sync",
      ["node-name": "b", "snapshot-file": path, "snapshot-node-name": "t", "format": "qcow2"]
    )
    try machine.kill()
  }

  /// An overlay's own tables grow with the disk.
  @Test(arguments: QEMURelease.allCases)
  func aDiskOfTerabytesTakesAnOverlay(qemu: QEMURelease) throws {
    try #require(truncate(disk, 5 << 40) == 0)
    let directory = try restored(driveArguments, qemu: qemu)
    let machine = try start(directory, "--disks", "overlay")
    let monitor = try machine.awaitRestored()
    try monitor.run("cont")
    try monitor.run(
      "human-monitor-command",
      ["command-line": "qemu-io d0 \"write -P 0x55 4T 4096\""]
    )
    try write(monitor, "d0", pattern: 0x56, to: overlay())
    #expect(try Data(readFile(overlay())).range(of: Data(repeating: 0x55, count: 4096)) != nil)
    try machine.kill()
    try waitUntil("the overlay is removed") { overlayFolders.isEmpty }
    var status = stat()
    #expect(stat(disk, &status) == 0 && status.st_blocks * 512 < 64 << 20)
  }

  /// A disk that is gone, is another file, or grew.
  @Test func everyChangeIsNamed() throws {
    let directory = try restored(driveArguments)
    let away = bench.directory.file("away")
    rename(disk, away)
    #expect(try refusal(directory, code: 66).contains("is gone since the VM was saved"))
    #expect(try refusal(directory, "--disks", "overlay", code: 66).contains("is gone"))
    var status = stat()
    stat(away, &status)
    let times = [status.st_atim, status.st_mtim]
    // A copy with the same time.
    try writeFile(disk, try readFile(away))
    utimensat(AT_FDCWD, disk, times, 0)
    #expect(try refusal(directory, code: 65).contains("it is another file than then"))
    unlink(disk)
    mkdir(disk, 0o700)
    #expect(try refusal(directory, code: 65).contains("is not a file any more"))
    rmdir(disk)
    rename(away, disk)
    truncate(disk, status.st_size + 4096)
    utimensat(AT_FDCWD, disk, times, 0)
    #expect(
      try refusal(directory, code: 65)
        .contains("it had \(status.st_size) bytes, and has \(status.st_size + 4096)")
    )
    truncate(disk, status.st_size)
    utimensat(AT_FDCWD, disk, times, 0)
    try start(directory).kill()
  }

  /// The machine ran on and wrote after the save: its clone must not run on what it wrote.
  @Test func aMachineThatWroteOnIsNotClonedOntoItsDisk() throws {
    let machine = try IdleMachine("machine", in: bench.directory, arguments: driveArguments)
    let monitor = try machine.monitor()
    try monitor.run("cont")
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "before")
    try write(monitor, "d0", pattern: 0x11, to: disk)
    try bench.tool.succeed(
      "save",
      "qemu:\(machine.monitorPath)",
      "--name",
      "after",
      "--leave-stopped"
    )
    try machine.kill()
    #expect(try refusal(bench.restoredDirectory("before"), code: 65).contains("has changed"))
    let clone = try start(bench.restoredDirectory("after"))
    _ = try clone.awaitRestored()
    try clone.kill()
  }

  /// What cannot be put on an overlay, and what nothing is known of.
  @Test func whatIsNotUnderstoodIsRefused() throws {
    let directory = try restored(driveArguments + ["-set", "drive.d0.cache=none"])
    #expect(
      try refusal(directory, "--disks", "overlay", code: 64)
        .contains("no overlay can take the place of the disk")
    )
    #expect(try refusal(directory, "--disks", "sometimes", code: 64).contains("--disks is check"))
    #expect(try refusal(directory, "--disks", code: 64).contains("--disks needs a value"))
    let help = try run(["\(directory)/run.sh", "--help"])
    #expect(help.succeeded && help.text.hasPrefix("Usage: run.sh [--trust-command]"), "\(help)")
    // A disk whose contents are thrown away when QEMU ends.
    let volatile = try IdleMachine(
      "volatile",
      in: bench.directory,
      arguments: ["-drive", "file=\(escaped(disk)),format=raw,if=virtio,snapshot=on"]
    )
    try bench.tool.succeed("save", "qemu:\(volatile.monitorPath)", "--name", "volatile")
    try volatile.kill()
    let said = try refusal(bench.restoredDirectory("volatile"), code: 69)
    #expect(said.contains("could not be looked at when the VM was saved"), "\(said)")
  }

  /// Clones with working directories of their own may have copies of the disks there.
  @Test func aCopyInAnotherWorkingDirectoryIsAnotherDisk() throws {
    let machine = try IdleMachine(
      "machine",
      in: bench.directory,
      files: ["d.img": sampleRAM(256)],
      arguments: ["-drive", "file=d.img,format=raw,if=virtio"]
    )
    try bench.tool.succeed("save", "qemu:\(machine.monitorPath)", "--name", "relative")
    try machine.kill()
    let directory = try bench.restoredDirectory("relative")
    let clonePlace = try bench.directory.subdirectory("clone")
    try writeFile("\(clonePlace)/d.img", try readFile("\(machine.workingDirectory)/d.img"))
    let outcome = try run(
      ["\(directory)/run.sh"],
      environment: ["VMCKPT_WORKING_DIRECTORY": clonePlace]
    )
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("\"d.img\" has changed"), "\(outcome)")
    // Where it was, it is the disk.
    let same = try run(
      ["\(directory)/run.sh", "-version"],
      environment: ["VMCKPT_WORKING_DIRECTORY": machine.workingDirectory]
    )
    #expect(same.succeeded, "\(same)")
  }
}
