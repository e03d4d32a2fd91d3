import Testing
import VMCheckpointTestSupport

/// Stores that have been used for years.
@Suite struct ManySnapshotsTests {
  /// 1,000 snapshots with 2,000 extents each: listing must read the first and none of the second. It
  /// takes some 20 ms of a processor; the limit is for machines that are slow.
  @Test(.slow) func listAndShowOfAThousandSnapshotsDoNotReadTheirPages() throws {
    let bench = try Workbench()
    try bench.save("seed", sampleRAM(40), "--vm", "seed", "--tag", "a=b")
    try bench.sql.run(
      """
      PRAGMA synchronous = OFF;
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
      INSERT INTO snapshot (uuid, name, vm, parent_id, state, started_at, completed_at, source,
        producer, ram_bytes, stored_pages, ram_checksum, ram_digest, digest)
      SELECT printf('%08d', n.i) || substr(s.uuid, 9), 's' || n.i, 'vm' || n.i % 10, s.id, s.state,
             s.started_at, s.completed_at, s.source, s.producer, s.ram_bytes, 2000, 0, s.ram_digest,
             s.digest
        FROM snapshot s, n WHERE s.name = 'seed' ORDER BY n.i;
      INSERT INTO memory_region SELECT s.id, r.gpa, r.bytes, r.file_offset, r.name
        FROM snapshot s, memory_region r WHERE s.name <> 'seed';
      INSERT INTO snapshot_tag SELECT id, 'number', name FROM snapshot WHERE name <> 'seed';
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1999)
      INSERT INTO ram_extent
      SELECT s.id, n.i * 2, 1, 1, n.i % 16, 0 FROM snapshot s, n WHERE s.name <> 'seed';
      """
    )
    let list = try bench.tool.json("list")["snapshots"] as? [[String: Any]]
    #expect(list?.count == 1001)
    for arguments in [
      ["list"], ["list", "--json"], ["list", "--vm", "vm3"], ["list", "--tag", "number=s7"],
      ["show", "s500"], ["show", "latest~1"],
    ] {
      let durations = try (0..<5).map { _ in
        let outcome = try bench.tool.start(arguments).wait()
        #expect(outcome.succeeded, "\(outcome)")
        #expect(outcome.maximumResidentByteCount < 64 << 20)
        return outcome.processorSeconds
      }
      #expect(durations.min()! < 0.3, "\(arguments) took \(durations)")
    }
  }
}
