import Testing
import VMCheckpointTestSupport

/// A chroot or container that lacks what others have.
@Suite struct BareEnvironmentTests {
  /// UUIDs that were all zeros made the second save of a store impossible.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func withoutDevicesSnapshotsHaveUUIDsOfTheirOwn() throws {
    let bench = try Workbench()
    let source = try bench.write("ram", sampleRAM(3))
    let script = "mount -t tmpfs none /dev && exec \"$@\""
    for name in ["a", "b"] {
      let outcome = try run(
        ["/usr/bin/env", "unshare", "--mount", "/bin/sh", "-c", script, "sh"]
          + bench.tool.commandLine(["save", source, "--name", name])
      )
      #expect(outcome.succeeded, "\(outcome)")
    }
    let uuids = try bench.sql.run("SELECT uuid FROM snapshot UNION ALL SELECT uuid FROM store")
      .split(separator: "\n")
    #expect(Set(uuids).count == 3)
    for uuid in uuids {
      #expect(
        uuid.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/)
          != nil,
        "\(uuid)"
      )
    }
  }
}
