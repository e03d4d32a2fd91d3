import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

@Suite struct ConvertResultTests {
  private func convertResult(path: String, pausedSeconds: String = "null") throws -> ConvertResult {
    try result(
      """
      {"source": "lime:guest.lime", "format": "elf", "path": \(path), "ramByteCount": 1073741824,
       "fileByteCount": 1073750016, "storedPageCount": 81440, "absentPageCount": 16, "overlayCount": 2,
       "appliedOverlayCount": 1, "deviceStateCount": 3, "durationSeconds": 0.25,
       "pausedSeconds": \(pausedSeconds), "stages": []}
      """
    )
  }

  @Test func asJSON() throws {
    let rendered = RenderedResult(
      try convertResult(path: #""/a/out.elf""#),
      overlaysPath: "o.json",
      warnings: ["x"]
    )
    #expect(
      rendered.json == """
        {
          "absent_pages": 16,
          "applied_overlay_count": 1,
          "device_state_count": 3,
          "duration_seconds": 0.25,
          "file_bytes": 1073750016,
          "format": "elf",
          "overlay_count": 2,
          "overlays_path": "o.json",
          "path": "/a/out.elf",
          "paused_seconds": null,
          "ram_bytes": 1073741824,
          "source": "lime:guest.lime",
          "stages": [],
          "stored_pages": 81440,
          "warnings": [
            "x"
          ]
        }

        """
    )
    #expect(
      RenderedResult(try convertResult(path: "null", pausedSeconds: "0.0151")).json.contains(
        "\"overlays_path\": null,\n  \"path\": null,\n  \"paused_seconds\": 0.015,"
      )
    )
  }

  @Test func asText() throws {
    let rendered = RenderedResult(
      try convertResult(path: #""out.elf""#, pausedSeconds: "0.015"),
      overlaysPath: "o.json"
    )
    #expect(
      rendered.text == """
        Converted lime:guest.lime to out.elf in 0.3 s
          Format         elf
          Size           1.0 GiB
          RAM            1.0 GiB
          Not zero       318.1 MiB (31.1%)
          Absent         64.0 KiB
          Overlays       2, 1 applied
          Described in   o.json
          Device states  3
          Paused         15 ms

        """
    )
    #expect(
      RenderedResult(try convertResult(path: "null")).text
        .hasPrefix("Converted lime:guest.lime to standard output in ")
    )
  }
}
