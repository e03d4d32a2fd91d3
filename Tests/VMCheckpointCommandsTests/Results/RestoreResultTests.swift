import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

@Suite struct RestoreResultTests {
  private func restoreResult(path: String) throws -> RestoreResult {
    try result(
      """
      {"name": "web/1", "uuid": "5d1c", "path": \(path), "fileByteCount": 1073741824,
       "storedPageCount": 81440, "absentPageCount": 16, "appliedOverlayCount": 1,
       "writtenDeviceStateCount": 2, "verifiedPages": true, "durationSeconds": 0.25, "stages": []}
      """
    )
  }

  @Test func asJSON() throws {
    let rendered = RenderedResult(try restoreResult(path: #""/a/out.ram""#), overlaysPath: "o.json")
    #expect(
      rendered.json == """
        {
          "absent_pages": 16,
          "applied_overlay_count": 1,
          "duration_seconds": 0.25,
          "file_bytes": 1073741824,
          "name": "web/1",
          "overlays_path": "o.json",
          "path": "/a/out.ram",
          "stages": [],
          "stored_pages": 81440,
          "uuid": "5d1c",
          "verified": true,
          "warnings": [],
          "written_device_states": 2
        }

        """
    )
    #expect(
      RenderedResult(try restoreResult(path: "null")).json.contains(
        "\"overlays_path\": null,\n  \"path\": null,"
      )
    )
  }

  @Test func asText() throws {
    let rendered = RenderedResult(try restoreResult(path: #""out.ram""#), overlaysPath: "o.json")
    #expect(
      rendered.text == """
        Restored web/1 to out.ram in 0.3 s
          Size           1.0 GiB
          Not zero       318.1 MiB
          Absent         64.0 KiB
          Overlays       1 applied
          Device states  2 written
          Described in   o.json
          Verified       every page's SHA-256

        """
    )
    #expect(
      RenderedResult(try restoreResult(path: "null")).text
        .hasPrefix("Restored web/1 to standard output in ")
    )
  }
}
