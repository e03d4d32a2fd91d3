import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointProbes

@Suite struct StatsResultTests {
  private func statistics(unfinished: Int = 0, stored: UInt64 = 1 << 28) throws
    -> StoreStatistics
  {
    try result(
      """
      {"path": "s.db", "formatVersion": 1, "features": [], "uuid": "5d1c", "createdAt": "2026-03-01",
       "snapshotCount": 3, "vmCount": 1, "ramByteCount": 3221225472,
       "nonzeroByteCount": 1073741824, "distinctPageByteCount": 536870912,
       "storedByteCount": \(stored), "chunkCount": 8192, "deviceStateByteCount": 0,
       "pageIndexEntryCount": 131072, "pageIndexRunCount": 1, "fileByteCount": 314572800,
       "freeByteCount": 1048576, "reserveByteCount": 16777216,
       "unfinishedSnapshotCount": \(unfinished)}
      """
    )
  }

  @Test func asJSON() throws {
    #expect(
      RenderedResult(try statistics()).json == """
        {
          "chunks": 8192,
          "created_at": "2026-03-01",
          "device_state_bytes": 0,
          "distinct_page_bytes": 536870912,
          "features": [],
          "file_bytes": 314572800,
          "format_version": 1,
          "free_bytes": 1048576,
          "nonzero_bytes": 1073741824,
          "page_index_entries": 131072,
          "page_index_runs": 1,
          "path": "s.db",
          "ram_bytes": 3221225472,
          "reserve_bytes": 16777216,
          "snapshots": 3,
          "stored_bytes": 268435456,
          "unfinished_snapshots": 0,
          "uuid": "5d1c",
          "vms": 1
        }

        """
    )
  }

  @Test func asText() throws {
    #expect(
      RenderedResult(try statistics(unfinished: 2)).text == """
        s.db
          Format         1
          UUID           5d1c
          Created        2026-03-01
          Snapshots      3 of 1 VM, 2 unfinished
          RAM            3.0 GiB
          Not zero       1.0 GiB (3.0x smaller without zero pages)
          Distinct       512.0 MiB (2.0x smaller by sharing equal pages)
          Stored         256.0 MiB (2.0x smaller by compression)
          Chunks         8192
          Device states  0 B
          Page index     131072 entries in 1 run
          File           300.0 MiB (10.2x smaller than the RAM)
          Free in file   1.0 MiB
          Reserve        16.0 MiB

        """
    )
  }

  @Test func nothingStoredHasNoRatio() throws {
    #expect(RenderedResult(try statistics(stored: 0)).text.contains("Stored         0 B\n"))
  }
}
