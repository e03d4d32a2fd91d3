import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointFormats
import VMCheckpointProbes

/// What `serve` and `lease` print.
@Suite struct ServeResultTests {
  private static let noRemote =
    #""remoteChunkCount": 0, "remoteByteCount": 0, "remoteWaitCount": 0, "remoteWaitSeconds": 0"#
  private static let slowRemote =
    #""remoteChunkCount": 12, "remoteByteCount": 1048576, "remoteWaitCount": 2, "remoteWaitSeconds": 3.5"#

  private static func served(
    _ counts: String,
    lease: String = "3",
    played: String = "null",
    remote: String = noRemote
  ) -> String {
    """
    {"name": "web/7", "uuid": "539878c1-3593-4021-9014-3399902ce9b8", "socketPath": "pages.sock",
     "leaseID": \(lease), "vmCount": 2, "completeVMCount": 1, "durationSeconds": 12.34567,
     "hasRecordedWorkingSet": \(played == "null"), "playedWorkingSet": \(played),
     "counts": {"faultCount": 1385, "faultPageCount": 7000, "workingSetPageCount": 8276, "zeroPageCount": 4818,
      "backgroundPageCount": 110000, "decodedChunkCount": 6806, \(remote), \(counts)}}
    """
  }

  @Test func serve() throws {
    let done: ServeResult = try result(
      Self.served(
        #""removedPageCount": 16, "poisonedPageCount": 1, "faultSecondsP50": 0.0000431, "faultSecondsP99": 0.000286"#,
        played:
          #"{"snapshot": "web/6", "door": "userfaultfd", "recordedAt": "2026-11-28T10:16:29.304Z", "durationSeconds": 5, "pageCount": 8276, "runCount": 1385}"#,
        remote: Self.slowRemote
      )
    )
    #expect(
      RenderedResult(done, warnings: ["w"]).json == """
        {
          "background_pages": 110000,
          "complete_vms": 1,
          "decoded_chunks": 6806,
          "duration_seconds": 12.346,
          "fault_pages": 7000,
          "fault_seconds_p50": 4.31e-05,
          "fault_seconds_p99": 0.000286,
          "faults": 1385,
          "lease": 3,
          "name": "web/7",
          "poisoned_pages": 1,
          "remote_bytes": 1048576,
          "remote_chunks": 12,
          "remote_wait_seconds": 3.5,
          "remote_waits": 2,
          "removed_pages": 16,
          "socket": "pages.sock",
          "uuid": "539878c1-3593-4021-9014-3399902ce9b8",
          "vms": 2,
          "warnings": [
            "w"
          ],
          "working_set_of": "web/6",
          "working_set_pages": 8276,
          "working_set_recorded": false,
          "zero_pages": 4818
        }

        """
    )
    #expect(
      RenderedResult(done).text == """
        Served web/7 for 12.3 s
          VMs              2, 1 with all pages
          Faults           1385, answered in 43 µs (median), 286 µs (99 of 100)
          In place         7000 for faults, 8276 of the working set, 110000 in the background
          Zeros            4818 pages
          Given back       16 pages
          Damaged          1 page
          Decoded          6806 chunks
          From the remote  12 chunks, 1.0 MiB; 2 times it gave nothing, for 3.5 s in all
          Working set      that of web/6

        """
    )
  }

  @Test func serveWithoutFaults() throws {
    let done: ServeResult = try result(
      Self.served(#""removedPageCount": 0, "poisonedPageCount": 0"#, lease: "null")
    )
    #expect(RenderedResult(done).json.contains(#""lease": null"#))
    #expect(RenderedResult(done).json.contains(#""fault_seconds_p50": null"#))
    #expect(RenderedResult(done).json.contains(#""working_set_of": null"#))
    #expect(
      RenderedResult(done).text == """
        Served web/7 for 12.3 s
          VMs          2, 1 with all pages
          Faults       none
          In place     7000 for faults, 110000 in the background
          Zeros        4818 pages
          Decoded      6806 chunks
          Working set  recorded, for the next start

        """
    )
  }

  private static func lease(_ id: Int, lostAt: String, held: Bool) throws -> Lease {
    try result(
      """
      {"id": \(id), "snapshot": "web/7", "door": "userfaultfd", "target": "/run/a\\u0007b.sock",
       "holder": "vmckpt 0.1.0", "begunAt": "2026-11-29T10:16:29.304Z", "lostAt": \(lostAt),
       "isHeld": \(held)}
      """
    )
  }

  @Test func leases() throws {
    let list = RenderedResult(
      dropped: nil,
      leases: [
        try Self.lease(1, lostAt: "null", held: true),
        try Self.lease(12, lostAt: "\"2026-11-29T11:00:00.000Z\"", held: false),
      ]
    )
    #expect(
      list.text == """
        ID  SNAPSHOT  DOOR         TARGET              BEGUN                     SERVER
         1  web/7     userfaultfd  /run/a\\u{07}b.sock  2026-11-29T10:16:29.304Z  runs
        12  web/7     userfaultfd  /run/a\\u{07}b.sock  2026-11-29T10:16:29.304Z  gone

        """
    )
    #expect(list.json.contains("\"dropped\": null"))
    #expect(list.json.contains("\"lost_at\": \"2026-11-29T11:00:00.000Z\""))
    let dropped = RenderedResult(
      dropped: try Self.lease(12, lostAt: "null", held: false),
      leases: []
    )
    #expect(dropped.text == "Dropped lease 12 on web/7\n")
    #expect(RenderedResult(dropped: nil, leases: []).text == "")
    #expect(RenderedResult(dropped: nil, leases: []).notice == "there are no leases")
  }

  private static func sent(_ times: String, remote: String = noRemote) -> String {
    """
    {"name": "web/7", "uuid": "539878c1-3593-4021-9014-3399902ce9b8", "process": 4711, "leaseID": 3,
     "isRecovery": false, "requestCount": 1385, "requestPageCount": 7000, "zeroPageCount": 4818,
     "workingSetPageCount": 0, "backgroundPageCount": 110000, "decodedChunkCount": 6806,
     "hasRecordedWorkingSet": false, "durationSeconds": 12.34567, \(remote), \(times)}
    """
  }

  @Test func postcopy() throws {
    let done: QEMUPostcopyResult = try result(
      Self.sent(
        #""secondsToRun": 0.0123, "secondsToSent": 1.5, "requestSecondsP50": 0.0000431, "requestSecondsP99": 0.000286"#,
        remote: Self.slowRemote
      )
    )
    #expect(
      RenderedResult(done, warnings: ["w"]).json == """
        {
          "background_pages": 110000,
          "decoded_chunks": 6806,
          "duration_seconds": 12.346,
          "lease": 3,
          "name": "web/7",
          "process": 4711,
          "recovered": false,
          "remote_bytes": 1048576,
          "remote_chunks": 12,
          "remote_wait_seconds": 3.5,
          "remote_waits": 2,
          "request_pages": 7000,
          "request_seconds_p50": 4.31e-05,
          "request_seconds_p99": 0.000286,
          "requests": 1385,
          "seconds_to_run": 0.0123,
          "seconds_to_sent": 1.5,
          "uuid": "539878c1-3593-4021-9014-3399902ce9b8",
          "warnings": [
            "w"
          ],
          "working_set_of": null,
          "working_set_pages": 0,
          "working_set_recorded": false,
          "zero_pages": 4818
        }

        """
    )
    #expect(
      RenderedResult(done).text == """
        Served web/7 for 12.3 s
          Runs after       12 ms
          Requests         1385, answered in 43 µs (median), 286 µs (99 of 100)
          Sent             7000 for requests, 0 of the working set, 110000 in the background
          Zeros            4818 pages
          Decoded          6806 chunks
          From the remote  12 chunks, 1.0 MiB; 2 times it gave nothing, for 3.5 s in all

        """
    )
    var recovery: QEMUPostcopyResult = try result(Self.sent(#""secondsToSent": null"#))
    recovery.isRecovery = true
    #expect(
      RenderedResult(recovery).text.hasPrefix("Went on with web/7 for 12.3 s\n  Requests  1385\n")
    )
  }
}
