import Glibc
import Testing
import VMCheckpointTestSupport

/// A result that cannot be printed is not a result that is not there.
@Suite struct ReportFailureTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test func whatWasDoneIsSaidWhereItsReportCannotBeWritten() throws {
    let source = try bench.write("ram", sampleRAM(20))
    let full = open("/dev/full", O_WRONLY | O_CLOEXEC)
    defer { close(full) }
    for (command, done) in [
      (["save", source, "--name", "a"], "the snapshot is saved, but its report cannot be written"),
      (["tag", "a", "k=v"], "the change of tags is done, but its report cannot be written"),
      (
        ["restore", "a", "-o", bench.directory.file("out")],
        "the snapshot is restored, but its report cannot be written"
      ),
      (["optimize"], "the optimization is done, but its report cannot be written"),
      (
        ["map", "a", "-o", bench.directory.file("map.svg")],
        "the picture is written, but its report cannot be written"
      ),
      (["list"], "cannot write the result"), (["gc", "--dry-run"], "cannot write the result"),
      (["gc"], "the collection is done, but its report cannot be written"),
      (["delete", "a"], "the deletion is done, but its report cannot be written"),
    ] {
      let outcome = try bench.tool.start(command, outputDescriptor: full).wait()
      expectFailure(outcome, 74, "\(done): No space left on device")
    }
    #expect(try bench.tool.snapshotNames().isEmpty)
    #expect(try readFile(bench.directory.file("out")) == sampleRAM(20))
  }

  /// Swift's own `CommandLine` has no arguments then.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func withoutProcTheArgumentsAreThere() throws {
    try bench.save("a", sampleRAM(3))
    let script = "umount -l /proc && exec \"$@\""
    let outcome = try run(
      ["/usr/bin/env", "unshare", "--mount", "/bin/sh", "-c", script, "sh"]
        + bench.tool.commandLine(["show", "a"])
    )
    #expect(outcome.ending == .exit(0), "\(outcome)")
    #expect(outcome.text.contains("Digest"))
  }
}
