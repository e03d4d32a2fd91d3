import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

/// What `mount` and `unmount` print.
@Suite struct MountResultTests {
  private static func mounted(_ isMounted: Bool, _ counts: String) -> String {
    """
    {"directory": "/mnt/v\\u0007ms", "snapshotCount": 2, "isMounted": \(isMounted), "hasLeases": true,
     "durationSeconds": 12.34567, "counts": \(counts)}
    """
  }

  @Test func mount() throws {
    let result: MountResult = try result(Self.mounted(true, "null"))
    #expect(RenderedResult(result).text == "Mounted 2 snapshots on /mnt/v\\u{07}ms\n")
    #expect(
      RenderedResult(result, warnings: ["w"]).json == """
        {
          "decoded_chunks": null,
          "directory": "/mnt/v\\u0007ms",
          "duration_seconds": 12.346,
          "failed_reads": null,
          "leases": true,
          "mounted": true,
          "read_bytes": null,
          "read_seconds_p50": null,
          "read_seconds_p99": null,
          "reads": null,
          "remote_bytes": null,
          "remote_chunks": null,
          "remote_wait_seconds": null,
          "remote_waits": null,
          "snapshots": 2,
          "warnings": [
            "w"
          ]
        }

        """
    )
  }

  @Test func mountInTheForeground() throws {
    let done: MountResult = try result(
      Self.mounted(
        false,
        #"{"readCount": 1251, "readByteCount": 260046848, "failedReadCount": 1, "decodedChunkCount": 6806, "remoteChunkCount": 70, "remoteByteCount": 1048576, "remoteWaitCount": 2, "remoteWaitSeconds": 4.5, "readSecondsP50": 0.0000471, "readSecondsP99": 0.00026}"#
      )
    )
    #expect(
      RenderedResult(done).text == """
        Served 2 snapshots at /mnt/v\\u{07}ms for 12.3 s
          Reads         1251, answered in 47 µs (median), 260 µs (99 of 100)
          Failed        1 read
          Read          248.0 MiB
          Decoded       6806 chunks
          From remotes  70 chunks, 1.0 MiB; 2 times it gave nothing, for 4.5 s in all

        """
    )
    let idle: MountResult = try result(
      Self.mounted(
        false,
        #"{"readCount": 0, "readByteCount": 0, "failedReadCount": 0, "decodedChunkCount": 0, "remoteChunkCount": 0, "remoteByteCount": 0, "remoteWaitCount": 0, "remoteWaitSeconds": 0}"#
      )
    )
    #expect(RenderedResult(idle).text.contains("  Reads    none\n"))
  }

  @Test func unmount() {
    let done = RenderedResult(unmounted: "/mnt/vms", isLazy: true)
    #expect(done.text == "Unmounted /mnt/vms\n")
    #expect(
      done.json == """
        {
          "directory": "/mnt/vms",
          "lazy": true
        }

        """
    )
  }
}
