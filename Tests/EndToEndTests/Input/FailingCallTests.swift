import Glibc
import Testing
import VMCheckpointTestSupport

/// Calls that fail seldom, or succeed and do nothing.
@Suite struct FailingCallTests {
  private let bench: Workbench
  private let faults: FaultLibrary
  private let ram = sampleRAM(40)

  init() throws {
    bench = try Workbench()
    faults = try FaultLibrary()
    try bench.save("a", ram)
  }

  private func run(
    _ arguments: [String],
    _ environment: [String: String]
  ) throws -> ProcessOutcome {
    try VMCheckpointTestSupport.run(
      bench.tool.commandLine(arguments),
      environment: environment
    )
  }

  @Test(arguments: [(EIO, "Input/output error"), (ENOSPC, "No space left on device")])
  func aNameThatMayNotLastIsNotSaidToBeThere(code: Int32, text: String) throws {
    let target = bench.directory.file("out.ram")
    for options in [[], ["--force"]] {
      expectFailure(
        try run(
          ["restore", "a", "-o", target] + options,
          faults.environment(directorySyncError: code)
        ),
        74,
        "cannot sync the directory of \"\(target)\" to disk: \(text); "
          + "the new file was removed; look at the disk, and try again"
      )
      #expect(!exists(target))
    }
    try writeFile(target, "old")
    expectFailure(
      try run(
        ["restore", "a", "-o", target, "--force"],
        faults.environment(directorySyncError: code)
      ),
      74,
      "cannot sync the directory of \"\(target)\" to disk: \(text); the file was replaced, and "
        + "may be the old one again after a power failure"
    )
    #expect(try readFile(target) == ram)
    #expect(bench.leftovers.isEmpty)
  }

  /// Not every file system can sync a directory.
  @Test(arguments: [EINVAL, ENOTSUP, ENOSYS])
  func aDirectoryThatCannotBeSyncedIsNoError(code: Int32) throws {
    let target = bench.directory.file("out.ram")
    let outcome = try run(
      ["restore", "a", "-o", target],
      faults.environment(directorySyncError: code)
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try readFile(target) == ram)
  }

  @Test func aStoreWhoseNameMayNotLastTakesNoSnapshot() throws {
    let tool = try VMCkptTool(storePath: bench.directory.file("new.db"))
    let source = try bench.write("b.ram", ram)
    let outcome = try VMCheckpointTestSupport.run(
      tool.commandLine(["save", source]),
      environment: faults.environment(directorySyncError: EIO)
    )
    expectFailure(
      outcome,
      74,
      "cannot sync the directory of store \"\(tool.storePath)\" to disk: Input/output error; "
        + "the new store is there and empty; look at the disk, and try again"
    )
    #expect(try tool.snapshotNames().isEmpty)
    let second = try tool.run("save", source, "--name", "b")
    #expect(second.succeeded, "\(second)")
  }

  private func saveQEMUGuest() throws {
    var stream = QEMUStreamBuilder()
    stream.header()
    stream.ramStart([("pc.ram", 8)])
    stream.ramPart(3)
    for index in 0..<8 {
      stream.page("pc.ram", index, [UInt8](repeating: UInt8(index), count: 4096))
    }
    stream.ramEnd()
    stream.devices()
    let path = try bench.write("stream", stream.bytes)
    try bench.tool.succeed("save", "qemu-stream:\(path)", "--name", "q")
  }

  /// A power failure after the rename must not leave a directory without its files, or none.
  @Test func aDirectoryIsOnDiskBeforeItsNameIsAndThenItsName() throws {
    try saveQEMUGuest()
    let target = bench.directory.file("vm")
    let outcome = try run(["restore", "q", "--format", "qemu", "-o", target], faults.environment())
    #expect(outcome.succeeded, "\(outcome)")
    let calls = faults.calls
    let rename = try #require(calls.firstIndex { $0.hasSuffix(" " + target) }, "\(calls)")
    let temporary = calls[rename].split(separator: " ")[1]
    #expect(calls[..<rename].last == "sync \(temporary)", "\(calls)")
    #expect(calls[(rename + 1)...].contains("sync \(bench.directory.path)"), "\(calls)")
  }

  @Test(arguments: [".tmp", ""])
  func aDirectoryThatMayNotLastIsNotLeft(part: String) throws {
    try saveQEMUGuest()
    let before = bench.directory.entries
    let target = bench.directory.file("vm")
    let outcome = try run(
      ["restore", "q", "--format", "qemu", "-o", target],
      faults.environment(directorySyncError: EIO, directoryPart: part)
    )
    #expect(outcome.ending == .exit(74), "\(outcome)")
    #expect(bench.directory.entries == before)
  }

  /// It is neither an interrupted call nor one to repeat for ever.
  @Test func aWriteThatWritesNothingIsAnError() throws {
    let target = bench.directory.file("out.ram")
    expectFailure(
      try run(["restore", "a", "-o", target], faults.environment(emptyWrites: ".out.ram.")),
      74,
      "cannot write \"\(target)\": Input/output error"
    )
    #expect(!exists(target))
  }

  @Test(arguments: [["restore", "a", "-o", "-"], ["list"]])
  func aStreamThatTakesNothingEndsTheCommand(arguments: [String]) throws {
    let pipe = try ChildPipe()
    let child = try ChildProcess(
      ["/usr/bin/env"] + faults.environment(emptyWrites: "pipe").map { "\($0)=\($1)" }
        + bench.tool.commandLine(arguments),
      outputDescriptor: pipe.writerForChild
    )
    let outcome = try child.wait()
    #expect(outcome.ending == .exit(74), "\(outcome)")
    #expect(outcome.standardError.contains("Input/output error"), "\(outcome)")
  }
}
