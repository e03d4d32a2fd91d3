import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

/// What `delete`, `gc`, `optimize` and `verify` print.
@Suite struct MaintenanceResultTests {
  private static func collected(dryRun: Bool) -> String {
    """
    {"dryRun": \(dryRun), "unfinishedSnapshotCount": 1, "freedChunkCount": 2,
     "freedPageCount": 32, "freedStoredByteCount": 70000, "repackedChunkCount": 1,
     "repackedStoredByteCount": 4000, "fileByteCountBefore": 1048576,
     "fileByteCountAfter": 524288}
    """
  }

  @Test func gc() throws {
    let done: CollectResult = try result(Self.collected(dryRun: false))
    #expect(
      RenderedResult(done, warnings: ["w"]).json == """
        {
          "dry_run": false,
          "file_bytes_after": 524288,
          "file_bytes_before": 1048576,
          "freed_chunks": 2,
          "freed_pages": 32,
          "freed_stored_bytes": 70000,
          "repacked_chunks": 1,
          "repacked_stored_bytes": 4000,
          "unfinished_snapshots": 1,
          "warnings": [
            "w"
          ]
        }

        """
    )
    #expect(
      RenderedResult(done).text == """
        Freed
          Unfinished  1 snapshot
          Freed       68.4 KiB in 2 chunks, 32 pages
          Repacked    1 chunk, 3.9 KiB freed
          File        512.0 KiB, was 1.0 MiB

        """
    )
  }

  private static func optimized(unreadable: Int) -> String {
    """
    {"rewrittenChunkCount": 1200, "newChunkCount": 1150, "storedPageCount": 18400,
     "droppedPageCount": 31, "unreadableChunkCount": \(unreadable),
     "storedByteCountBefore": 41943040, "storedByteCountAfter": 36700160,
     "extentCountBefore": 3200, "extentCountAfter": 3100, "fileByteCountBefore": 52428800,
     "fileByteCountAfter": 41943040, "durationSeconds": 2.34567}
    """
  }

  @Test func optimize() throws {
    let done: OptimizeResult = try result(Self.optimized(unreadable: 0))
    #expect(
      RenderedResult(done, warnings: ["w"]).json == """
        {
          "dropped_pages": 31,
          "duration_seconds": 2.346,
          "extents_after": 3100,
          "extents_before": 3200,
          "file_bytes_after": 41943040,
          "file_bytes_before": 52428800,
          "new_chunks": 1150,
          "rewritten_chunks": 1200,
          "stored_bytes_after": 36700160,
          "stored_bytes_before": 41943040,
          "stored_pages": 18400,
          "unreadable_chunks": 0,
          "warnings": [
            "w"
          ]
        }

        """
    )
    #expect(
      RenderedResult(done).text == """
        Optimized in 2.3 s
          Rewritten  1200 chunks
          Dropped    31 pages
          Stored     35.0 MiB, was 40.0 MiB
          Extents    3100, was 3200
          File       40.0 MiB, was 50.0 MiB

        """
    )
  }

  @Test func optimizeThatLeftChunksAlone() throws {
    let done: OptimizeResult = try result(Self.optimized(unreadable: 2))
    #expect(
      RenderedResult(done).text.contains("  Left alone  2 chunks; see why with: vmckpt verify\n")
    )
  }

  @Test func gcDryRun() throws {
    let planned: CollectResult = try result(Self.collected(dryRun: true))
    #expect(
      RenderedResult(planned).text == """
        Would free
          Unfinished  1 snapshot
          Freed       68.4 KiB in 2 chunks, 32 pages
          Repacked    1 chunk
          File        1.0 MiB

        """
    )
  }

  @Test func delete() throws {
    let done: DeleteResult = try result(
      #"{"deleted": ["a", "b"], "collected": \#(Self.collected(dryRun: false))}"#
    )
    #expect(RenderedResult(done).text.hasPrefix("Deleted a\nDeleted b\nFreed\n  Unfinished"))
    #expect(RenderedResult(done).json.contains("  \"collected\": {\n    \"dry_run\": false,"))
  }

  @Test func deleteThatLeftFreeingToGC() throws {
    let done: DeleteResult = try result(#"{"deleted": ["a"]}"#)
    #expect(
      RenderedResult(done).json == """
        {
          "collected": null,
          "deleted": [
            "a"
          ],
          "warnings": []
        }

        """
    )
    #expect(
      RenderedResult(done).text
        == "Deleted a\nThe store is in use: 'vmckpt gc' will free the space later\n"
    )
  }

  @Test func verifyThatFindsNothing() throws {
    let report: VerifyReport = try result(
      """
      {"part": {"number": 1, "count": 1}, "snapshotCount": 2, "chunkCount": 1, "pageCount": 40, "storedByteCount": 5000,
       "remoteChunkCount": 3, "problems": [], "problemCount": 0, "damagedSnapshots": [], "durationSeconds": 0.5}
      """
    )
    let rendered = RenderedResult(report)
    #expect(rendered.exitCode == 0)
    #expect(
      rendered.text
        == "Sound\nChecked 2 snapshots, 1 chunk, 40 pages, 4.9 KiB in 0.5 s\n"
        + "Not checked: 3 chunks whose data is in a remote only\n"
    )
    #expect(rendered.json.contains("\"sound\": true,"))
  }

  @Test func verifyThatFindsDamage() throws {
    let report: VerifyReport = try result(
      """
      {"part": {"number": 2, "count": 30}, "snapshotCount": 2, "chunkCount": 3, "pageCount": 40, "storedByteCount": 5000,
       "remoteChunkCount": 0, "problems": [
         {"subject": "chunk 17", "message": "bad checksum\\nx", "victims": [
           {"snapshot": "a",
            "pages": [{"firstPFN": 16, "pageCount": 16}, {"firstPFN": 99, "pageCount": 1},
                      {"firstPFN": 18446744073709551615, "pageCount": 2}]},
           {"snapshot": "b", "pages": [{"firstPFN": 7, "pageCount": 1}]}]},
         {"subject": "page index", "message": "not sorted", "victims": []}],
       "problemCount": 5, "damagedSnapshots": ["a", "b"], "durationSeconds": 0.5}
      """
    )
    let rendered = RenderedResult(report)
    #expect(rendered.exitCode == 65)
    #expect(
      rendered.text == #"""
        DAMAGED: 5 problems
          chunk 17: bad checksum\nx
            snapshots: a, b
            PFNs in a: 0x10-0x1f, 0x63, 0xffffffffffffffff-0x0
            PFNs in b: 0x7
          page index: not sorted
          3 more
        Damaged snapshots: a, b
        Others may be damaged by the same: a whole verify, without --part, names them all
        Checked 2 snapshots, 3 chunks, 40 pages, 4.9 KiB of part 2/30 in 0.5 s

        """#
    )
    #expect(
      rendered.json == #"""
        {
          "checked_chunks": 3,
          "checked_pages": 40,
          "checked_snapshots": 2,
          "checked_stored_bytes": 5000,
          "damaged_snapshots": [
            "a",
            "b"
          ],
          "duration_seconds": 0.5,
          "hint": null,
          "part": "2/30",
          "problem_count": 5,
          "problems": [
            {
              "damage": [
                {
                  "pages": [
                    {
                      "first_pfn": 16,
                      "page_count": 16
                    },
                    {
                      "first_pfn": 99,
                      "page_count": 1
                    },
                    {
                      "first_pfn": 18446744073709551615,
                      "page_count": 2
                    }
                  ],
                  "snapshot": "a"
                },
                {
                  "pages": [
                    {
                      "first_pfn": 7,
                      "page_count": 1
                    }
                  ],
                  "snapshot": "b"
                }
              ],
              "message": "bad checksum\nx",
              "snapshots": [
                "a",
                "b"
              ],
              "subject": "chunk 17"
            },
            {
              "damage": [],
              "message": "not sorted",
              "snapshots": [],
              "subject": "page index"
            }
          ],
          "remote_chunks": 0,
          "sound": false,
          "warnings": []
        }

        """#
    )
  }
}
