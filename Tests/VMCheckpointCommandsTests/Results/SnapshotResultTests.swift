import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

/// What `save`, `list` and `tag` print.
@Suite struct SnapshotResultTests {
  static func saveResult() throws -> SaveResult {
    try result(
      """
      {"name": "web/1", "uuid": "5d1c", "vm": "web", "ramByteCount": 1073741824,
       "storedPageCount": 81440, "absentPageCount": 0, "newPageCount": 28160,
       "newStoredByteCount": 50000000, "overlayCount": 2, "deviceStateCount": 1,
       "compression": "default",
       "digest": "abcd", "durationSeconds": 1.23456,
       "stages": [{"stage": "read", "seconds": 0.51249, "byteCount": 1073741824},
                  {"stage": "sync", "seconds": 0, "byteCount": 0}]}
      """
    )
  }

  static func summary(_ name: String, parent: String?, tags: String = "{}") throws
    -> SnapshotSummary
  {
    let parent = parent.map { "\"\($0)\"" } ?? "null"
    return try result(
      """
      {"name": "\(name)", "uuid": "5d1c", "vm": "web", "parent": \(parent),
       "startedAt": "2026-03-01T09:30:00.125Z", "completedAt": "2026-03-01T09:30:01.250Z",
       "ramByteCount": 1073741824, "storedPageCount": 81440, "newPageCount": 28160,
       "newStoredByteCount": 50000000, "overlayCount": 2, "deviceStateCount": 1,
       "tags": \(tags), "digest": "abcd"}
      """
    )
  }

  @Test func saveAsJSON() throws {
    #expect(
      RenderedResult(try Self.saveResult(), warnings: ["RAM at PFN 0x4000 differs"]).json == """
        {
          "absent_pages": 0,
          "compression": "default",
          "device_state_count": 1,
          "digest": "abcd",
          "duration_seconds": 1.235,
          "name": "web/1",
          "new_pages": 28160,
          "new_stored_bytes": 50000000,
          "overlay_count": 2,
          "parent": null,
          "pause_method": null,
          "paused_seconds": null,
          "ram_bytes": 1073741824,
          "stages": [
            {
              "bytes": 1073741824,
              "seconds": 0.512,
              "stage": "read"
            },
            {
              "bytes": 0,
              "seconds": 0,
              "stage": "sync"
            }
          ],
          "stored_pages": 81440,
          "uuid": "5d1c",
          "vm": "web",
          "warnings": [
            "RAM at PFN 0x4000 differs"
          ]
        }

        """
    )
  }

  /// A library's result may hold what a hostile monitor has said.
  @Test(arguments: [1e300, 1e18, -1e300, .infinity, .nan])
  func anImpossiblePauseDoesNotEndTheReport(pausedSeconds: Double) throws {
    var result = try Self.saveResult()
    result.pausedSeconds = pausedSeconds
    let rendered = RenderedResult(result)
    #expect(rendered.text.hasPrefix("Saved web/1 in 1.2 s\n"))
    #expect(rendered.json.contains("\"paused_seconds\": "))
  }

  /// How long the guest was stopped says little without how.
  @Test(arguments: PauseMethod.allCases)
  func aPauseIsShownWithItsMethod(method: PauseMethod) throws {
    var result = try Self.saveResult()
    (result.pausedSeconds, result.pauseMethod) = (0.0125, method)
    let rendered = RenderedResult(result)
    let texts: [PauseMethod: String] = [
      .twoPass: "RAM was read before, and compared", .backgroundSnapshot: "background snapshot",
      .precopy: "RAM was sent before", .stopped: "for all of RAM",
    ]
    #expect(rendered.text.contains("  Paused         13 ms (\(texts[method] ?? "?"))\n"))
    #expect(rendered.json.contains("\"pause_method\": \"\(method.rawValue)\",\n"))
  }

  @Test func saveAsText() throws {
    #expect(
      RenderedResult(try Self.saveResult()).text == """
        Saved web/1 in 1.2 s
          VM             web
          Parent         -
          RAM            1.0 GiB
          Not zero       318.1 MiB (31.1%)
          New            110.0 MiB in 28160 pages, stored in 47.7 MiB
          Overlays       2
          Device states  1
          UUID           5d1c
          Digest         abcd

        """
    )
  }

  @Test func listAsJSON() throws {
    let summaries = [try Self.summary("web/2", parent: "web/1", tags: #"{"k": "v/1", "a": ""}"#)]
    #expect(
      RenderedResult(summaries, storePath: "s.db").json == """
        {
          "snapshots": [
            {
              "completed_at": "2026-03-01T09:30:01.250Z",
              "device_state_count": 1,
              "digest": "abcd",
              "name": "web/2",
              "new_pages": 28160,
              "new_stored_bytes": 50000000,
              "overlay_count": 2,
              "parent": "web/1",
              "ram_bytes": 1073741824,
              "started_at": "2026-03-01T09:30:00.125Z",
              "stored_pages": 81440,
              "tags": {
                "a": "",
                "k": "v/1"
              },
              "uuid": "5d1c",
              "vm": "web"
            }
          ]
        }

        """
    )
  }

  @Test func listAsText() throws {
    let long = "web/" + String(repeating: "x", count: 40)
    let summaries = [
      try Self.summary("web/1", parent: nil),
      try Self.summary(long, parent: "web/1", tags: #"{"k": "v \u001b[31m", "a": "1"}"#),
    ]
    let space = String(repeating: " ", count: 40)
    #expect(
      RenderedResult(summaries, storePath: "s.db").text
        == """
        NAME\(space)  VM   PARENT  COMPLETED                     RAM    NONZERO        NEW    \
        STORED  OVERLAYS  TAGS
        web/1\(space.dropLast())  web  -       2026-03-01T09:30:01.250Z  1.0 GiB  318.1 MiB  \
        110.0 MiB  47.7 MiB         2  -
        \(long)  web  web/1   2026-03-01T09:30:01.250Z  1.0 GiB  318.1 MiB  110.0 MiB  \
        47.7 MiB         2  a=1, k=v \\u{1B}[31m

        """
    )
  }

  @Test func anEmptyListSaysSoBesideTheResult() throws {
    let all = RenderedResult([], storePath: "s.db")
    #expect(all.text == "")
    #expect(all.notice == #"no snapshots in "s.db""#)
    #expect(all.json == "{\n  \"snapshots\": []\n}\n")
    #expect(
      RenderedResult([], storePath: "s.db", isFiltered: true).notice
        == #"no snapshot in "s.db" matches"#
    )
  }

  @Test func tag() throws {
    let tagged = RenderedResult(
      tagged: try Self.summary("web/1", parent: nil, tags: #"{"k": "v", "a": "1"}"#)
    )
    #expect(tagged.text == "web/1: a=1, k=v\n")
    #expect(tagged.json.hasPrefix("{\n  \"completed_at\": "))
    #expect(
      RenderedResult(tagged: try Self.summary("web/1", parent: nil)).text == "web/1: no tags\n"
    )
  }
}
