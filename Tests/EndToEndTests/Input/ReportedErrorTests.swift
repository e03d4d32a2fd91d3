import Glibc
import Testing
import VMCheckpointTestSupport

/// Errors that people met with such tools and could not help themselves with: one line, which says what to do.
@Suite struct ReportedErrorTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save("a", sampleRAM(40))
  }

  @Test func aMonitorThatIsNotAUnixSocketIsRefusedWithAdvice() throws {
    expectFailure(
      try bench.tool.run("save", "qemu:tcp:localhost:4444"),
      64,
      "QEMU's monitor \"tcp:localhost:4444\" is not a Unix socket, and others are not used: anybody on this machine "
        + "could have made them; give QEMU a second one, with -qmp unix:PATH,server=on,wait=off, and save qemu:PATH"
    )
  }

  @Test func theSocketOfAQEMUThatHasEndedIsNamed() throws {
    let path = bench.directory.file("qmp")
    _ = try run([
      "/usr/bin/env", "python3", "-c",
      "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])", path,
    ])
    expectFailure(
      try bench.tool.run("save", "qemu:\(path)"),
      69,
      "cannot connect to QEMU's monitor \"\(path)\": Connection refused; the QEMU that made the socket has ended; "
        + "start it again"
    )
  }

  /// A guest agent waits for commands, and so would vmckpt for a greeting.
  @Test func theSocketOfAGuestAgentIsNotWaitedForForEver() throws {
    let path = bench.directory.file("agent")
    let agent = try ChildProcess([
      "/usr/bin/env", "python3", "-c",
      """
      import os, socket, sys
      s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1] + ".new"); s.listen()
      os.rename(sys.argv[1] + ".new", sys.argv[1])
      while True: c = s.accept()[0]; c.recv(1)
      """, path,
    ])
    defer { agent.send(SIGKILL) }
    try waitUntil("it listens") { exists(path) }
    expectFailure(
      try bench.tool.run("save", "qemu:\(path)"),
      69,
      "QEMU's monitor \"\(path)\" does not answer; it serves one client at a time: give QEMU a second one with "
        + "another -qmp unix:…; a guest agent or another VMM does not speak QMP"
    )
  }

  @Test func aTargetInAFolderThatIsNotThereIsRefusedWithAdvice() throws {
    let path = bench.directory.file("no/x.ram")
    expectFailure(
      try bench.tool.run("restore", "a", "-o", path),
      73,
      "cannot create \"\(path)\": No such file or directory; make its folder first, or give another path"
    )
  }

  /// It would have become a file of that name, or have replaced one.
  @Test func aTargetThatIsWrittenAsAFolderIsRefused() throws {
    let path = bench.directory.file("x")
    try writeFile(path, "precious")
    for target in ["\(path)/", bench.directory.file("y/")] {
      expectFailure(
        try bench.tool.run("restore", "a", "-o", target, "--force"),
        73,
        "cannot create \"\(target)\": that names a folder; give the file's name too"
      )
    }
    #expect(try readFile(path) == Array("precious".utf8))
  }

  /// A shell's `>(…)`, and `/dev/stdout` in a pipe.
  @Test func aPipeByItsPathIsRefusedWithAdvice() throws {
    let outcome = try run(
      ["/bin/bash", "-c", "\"$@\" -o >(cat)", "sh"] + bench.tool.commandLine(["restore", "a"])
    )
    #expect(outcome.ending == .exit(73), "\(outcome)")
    #expect(outcome.standardError.contains("not a regular file"), "\(outcome)")
    #expect(outcome.standardError.contains("standard output"), "\(outcome)")
  }

  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aReadOnlyFileSystemIsNoPlaceForAFile() throws {
    let fileSystem = try SmallFileSystem(.tmpfs, megabyteCount: 1)
    _ = try run(["/usr/bin/env", "mount", "-o", "remount,ro", fileSystem.path])
    let outcome = try bench.tool.run("restore", "a", "-o", "\(fileSystem.path)/x")
    #expect(
      outcome.standardError.contains("; give a path on a file system that may be written to"),
      "\(outcome)"
    )
  }

  /// `df` shows space, and the system says that there is none.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aFullTableOfInodesIsNotCalledAFullDiskAlone() throws {
    let advice = "there is no space, or no inode (df -i), for another file; free some"
    let full = try SmallFileSystem(.tmpfs, inodeCount: 1)
    expectFailure(
      try bench.tool.run("restore", "a", "-o", "\(full.path)/x"),
      73,
      "cannot create \"\(full.path)/x\": No space left on device; \(advice)"
    )
    let source = try bench.write("x.ram", sampleRAM(40))
    // Each of a new store's files is the first that does not fit: itself, its journal, its lock.
    for (inodeCount, code) in [(1, 73), (2, 74), (3, 74)] {
      let place = try SmallFileSystem(.tmpfs, inodeCount: inodeCount)
      let outcome = try VMCkptTool(storePath: "\(place.path)/s.db").run("save", source)
      #expect(outcome.ending == .exit(Int32(code)), "\(inodeCount): \(outcome)")
      #expect(outcome.standardError.hasSuffix("; \(advice)\n"), "\(inodeCount): \(outcome)")
    }
  }

  @Test func aStoreThatIsMovedDuringASaveIsNotCalledReadOnly() throws {
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "b", "--no-parent"],
      input: .descriptor(pipe.reader)
    )
    // The rest fits into the pipe, also when nobody reads it any more.
    let ram = incompressibleRAM(2048 + 12, seed: 5)
    try pipe.write(Array(ram[..<(2048 * 4096)]))
    try save.waitUntilItWaits(for: .descriptor)
    rename(bench.storePath, bench.storePath + ".moved")
    try pipe.write(Array(ram[(2048 * 4096)...]))
    pipe.closeWriter()
    let outcome = try save.wait()
    #expect(!outcome.succeeded)
    #expect(outcome.standardError.contains("was moved, replaced or removed"), "\(outcome)")
    #expect(!outcome.standardError.contains("read-only"), "\(outcome)")
  }

  @Test func aBackupOfProxmoxIsNotTakenForRAM() throws {
    let path = try bench.write("back.vma", Array("VMA\0".utf8) + [UInt8](repeating: 0, count: 8188))
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("a Proxmox backup (VMA)"), "\(outcome)")
  }

  @Test func aFileIsNotTakenForADeadMonitor() throws {
    let path = try bench.write("qmp", [1])
    expectFailure(
      try bench.tool.run("save", "qemu:\(path)"),
      64,
      "QEMU's monitor \"\(path)\" is not a socket; start QEMU with -qmp unix:PATH,server=on,wait=off, and give PATH"
    )
  }

  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func hugePagesAreNoPlaceForAFile() throws {
    let place = try bench.directory.subdirectory("huge")
    guard try run(["/usr/bin/env", "mount", "-t", "hugetlbfs", "none", place]).succeeded else {
      return
    }
    defer { _ = try? run(["/usr/bin/env", "umount", "-l", place]) }
    let outcome = try bench.tool.run("restore", "a", "-o", "\(place)/x")
    #expect(outcome.ending == .exit(73))
    #expect(
      outcome.standardError.hasSuffix(
        "; huge pages (hugetlbfs) cannot be written to as a file; give a path elsewhere, such as in /dev/shm\n"
      )
    )
    #expect(directoryEntries(place).isEmpty)
  }

  /// Scheduled jobs have no home, and may have no room for temporary files.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func withoutAHomeAndWithAFullTemporaryFolderAllWorks() throws {
    let fileSystem = try SmallFileSystem(.tmpfs, megabyteCount: 1)
    try fileSystem.fill("\(fileSystem.path)/ballast")
    let source = try bench.write("b.ram", incompressibleRAM(600))
    let state = try bench.write("state", incompressibleRAM(1500, seed: 3))
    for arguments in [
      ["save", source, "--name", "b", "--device-state", "s=\(state)"], ["delete", "b"],
      ["save", source, "--name", "c"], ["optimize"], ["gc"], ["verify"],
    ] {
      let outcome = try run(
        [
          "/usr/bin/env", "-i", "TMPDIR=\(fileSystem.path)", "SQLITE_TMPDIR=\(fileSystem.path)",
        ] + bench.tool.commandLine(arguments)
      )
      #expect(outcome.succeeded, "\(arguments): \(outcome)")
    }
  }

  /// A copy made by `cp` in the middle of a write has pages of two moments.
  @Test func aTornCopyIsNamedInOneShortLine() throws {
    try bench.save("b", incompressibleRAM(2000, seed: 2))
    let before = try readFile(bench.storePath)
    try bench.tool.succeed("delete", "b")
    try bench.tool.succeed("gc")
    try bench.save("c", incompressibleRAM(1900, seed: 3))
    let after = try readFile(bench.storePath)
    let half = min(before.count, after.count) / 8192 * 4096
    let copy = try bench.write("copy.db", Array(after[..<half] + before[half...]))
    let outcome = try run([VMCkptTool.path(), "verify", "--store", copy])
    #expect(outcome.ending == .exit(65), "\(outcome)")
    let lines = outcome.text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(
      lines.dropFirst().first?.hasPrefix(
        "The file's parts do not fit together, as in a copy that was made while"
      )
        == true,
      "\(lines.prefix(3))"
    )
    #expect(lines.allSatisfy { $0.count < 400 }, "\(lines.map(\.count).max() ?? 0)")
    // A chunk that is damaged says nothing of the kind.
    try bench.sql.run("UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id > 5")
    let damaged = try bench.tool.run("verify")
    #expect(damaged.ending == .exit(65))
    #expect(!damaged.text.contains("do not fit together"))
  }

  /// Wherever the copy was when somebody wrote, its user learns what happened, and is not sent in a circle.
  @Test func everyTornCopyIsNamedByWhateverOpensIt() throws {
    var moments: [[UInt8]] = []
    for (index, pageCount) in [700, 900, 400, 1200].enumerated() {
      try bench.save("n\(index)", incompressibleRAM(pageCount, seed: UInt64(index) + 2))
      if index > 0 { try bench.tool.succeed("delete", "n\(index - 1)") }
      if index == 2 { try bench.tool.succeed("gc") }
      moments.append(try readFile(bench.storePath))
    }
    let source = try bench.write("x.ram", incompressibleRAM(50, seed: 9))
    let binary = try VMCkptTool.path()
    var tornCount = 0
    for (before, after) in [(0, 1), (2, 1), (2, 3), (3, 0)] {
      for cut in [4096, 40 << 10, 256 << 10, 1 << 20] {
        let bytes = Array(moments[before].prefix(cut) + moments[after].dropFirst(cut))
        let copy = try bench.write("copy.db", bytes)
        for arguments in [["list"], ["save", source, "--vm", "other", "--name", "x"], ["verify"]] {
          // A save changes it.
          let place = try bench.write("torn.db", try readFile(copy))
          chmod(place, 0o600)
          let outcome = try run([binary] + arguments + ["--store", place])
          guard !outcome.succeeded else { continue }
          tornCount += 1
          let context = "\(arguments) of \(before), \(after) at \(cut): \(outcome)"
          let said =
            arguments == ["verify"] && !outcome.text.isEmpty ? outcome.text : outcome.standardError
          let line = said.split(separator: "\n").first {
            $0.hasSuffix("vmckpt backup") || $0.contains("vmckpt backup;")
          }
          #expect(line != nil, "\(context)")
          #expect(said.split(separator: "\n").allSatisfy { $0.count < 400 }, "\(context)")
          if arguments == ["verify"] {
            #expect(!said.contains("with: vmckpt verify"), "\(context)")
          }
        }
      }
    }
    #expect(tornCount > 12)
  }
}
