import Testing
import VMCheckpointTestSupport

/// A file that is mounted under a second name has one link, and two journals and two locks.
@Suite struct MountPointTests {
  @Test(
    .enabled(if: SmallFileSystem.canMount, "cannot mount"),
    arguments: [
      ["list"], ["verify"], ["restore", "a", "-o", "-"], ["gc"], ["delete", "a"],
      ["tag", "a", "k=v"], ["save", "-"], ["sql", "SELECT 1"],
    ]
  )
  func aStoreUnderTheNameOfAMountedFileIsRefused(arguments: [String]) throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(4))
    let other = bench.directory.file("other.db")
    try writeFile(other, "")
    let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""
    let outcome = try run(
      ["/usr/bin/env", "unshare", "--mount", "/bin/sh", "-c", script, bench.storePath, other]
        + (VMCkptTool(storePath: other).commandLine(arguments))
    )
    expectFailure(
      outcome,
      77,
      "store \"\(other)\" is a mount point of its own, so its lock and journal would not be "
        + "shared; mount its directory instead"
    )
    #expect(!exists(other + "-lock"))
    #expect(!exists(other + "-journal"))
    #expect(try bench.tool.snapshotNames() == ["a"])
  }

  /// As a container gets it: this is what the message says to do.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aStoreInAMountedDirectoryIsUsed() throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(4))
    let place = try TemporaryDirectory()
    let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""
    expectSuccess(
      try run(
        [
          "/usr/bin/env", "unshare", "--mount", "/bin/sh", "-c", script, bench.directory.path,
          place.path,
        ] + (VMCkptTool(storePath: place.file("store.db")).commandLine(["verify"]))
      )
    )
  }
}
