import Foundation
import Testing
import VMCheckpointTestSupport

/// Queries of large stores, and of stores that mean harm.
@Suite struct QueryLimitTests {
  /// Two snapshots `big/1` and `big/2` with 100,000 extents each: large enough that a query that goes
  /// over all pairs of them does not end in the time of a test.
  private static func bigStore() throws -> Workbench {
    let bench = try Workbench()
    try bench.save("seed", sampleRAM(4), "--vm", "seed")
    try bench.sql.run(
      """
      PRAGMA synchronous = OFF;
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
      INSERT INTO chunk (id, page_count, stored_bytes, encoding, digests, fingerprints)
        SELECT 1000 + i, 16, 20000, 'lz4', randomblob(512), randomblob(128) FROM n;
      INSERT INTO snapshot (uuid, name, vm, parent_id, state, started_at, completed_at, source,
        producer, ram_bytes, stored_pages, ram_checksum, ram_digest, digest)
      SELECT '0000000' || v.n || substr(s.uuid, 9), 'big/' || v.n, 'big', s.id, 'complete', s.started_at,
             s.completed_at, s.source, s.producer, 4294967296, 400000, 0, s.ram_digest, s.digest
        FROM snapshot s, (SELECT 1 AS n UNION ALL SELECT 2) v WHERE s.name = 'seed' ORDER BY v.n;
      INSERT INTO memory_region SELECT id, 0, 4294967296, 0, 'ram' FROM snapshot WHERE vm = 'big';
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
      INSERT INTO ram_extent
      SELECT s.id, i * 5, 4, 1001 + (i / 4 + (s.name = 'big/2' AND i % 9 = 0) * 7) % 50000, i % 4 * 4, 0
        FROM snapshot s, n WHERE s.vm = 'big' AND NOT (s.name = 'big/2' AND i % 11 = 0);
      """
    )
    return bench
  }

  @Test(.slow) func noQueryGoesOverAllPairsOfExtents() throws {
    let bench = try Self.bigStore()
    for arguments in [
      ["largest-snapshots"], ["vms"], ["growth"], ["lineage", "big/2"], ["region-pages", "big/1"],
      ["duplicate-pages", "big/2"], ["changes", "big/1", "big/2"],
      ["changed-pages", "big/1", "big/2"], ["shared-pages", "big/1", "big/2"],
      ["shared-by-vms", "big", "seed"], ["overlays", "big/1"], ["page-history", "big", "5000"],
      ["page-copies", "5000", "big/1"],
    ] {
      let outcome = try bench.tool.start(["query"] + arguments).wait()
      #expect(outcome.succeeded, "\(outcome)")
      #expect(outcome.maximumResidentByteCount < 200 << 20)
    }
    let changes = try bench.answer("changes", "big/1", "big/2")[0]
    // Every 11th extent is gone; of the others, every 9th has other pages.
    #expect(Array(changes[3...]) == ["0", "36364", "40404", "323232", "0"])
  }

  @Test(arguments: [SIGINT, SIGTERM])
  func aQueryWithoutEndCannotHoldTheUser(signal: Int32) throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(4))
    // Every overlay has every kind: 900 million rows to sort.
    try bench.sql.run(
      """
      DROP TABLE overlay_kind;
      CREATE TABLE overlay_kind (kind, priority, scope, contents);
      PRAGMA foreign_keys = OFF;
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
      INSERT INTO overlay_kind SELECT 'hypercall', i, 'vm', 'derived' FROM n;
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
      INSERT INTO overlay SELECT 1, 0, 'hypercall', i, '{}', NULL, NULL, 0 FROM n;
      """
    )
    let child = try bench.tool.start(["query", "overlays"])
    // Starting takes much less than that: it is the query that is at work.
    try waitUntil("the query is at work") { child.catches(signal) && child.processorSeconds > 0.5 }
    child.send(signal)
    let outcome = try child.wait()
    #expect(outcome.ending == .signal(signal), "\(outcome)")
    #expect(outcome.standardError == "vmckpt: interrupted\n")
  }

  /// A view of a stranger's could answer wrongly, or never.
  @Test(arguments: [
    (
      "DROP VIEW chunk_slot; CREATE VIEW chunk_slot (slot) AS WITH RECURSIVE n (i) AS (SELECT 20 UNION ALL SELECT i FROM n) SELECT i FROM n",
      "the definition of view chunk_slot is not that of the format"
    ),
    ("DROP VIEW stored_page", "view stored_page is missing from the schema"),
    (
      "DROP VIEW storage_stats; CREATE TABLE storage_stats (snapshots)",
      "view storage_stats is missing from the schema"
    ),
  ])
  func aStrangersViewIsNotRead(sql: String, problem: String) throws {
    let bench = try Workbench()
    let ram = sampleRAM(4)
    try bench.save("a", ram)
    try bench.sql.run(sql)
    let hint = "put back the views of the format's schema; snapshots do not depend on them"
    for arguments in [["query", "region-pages"], ["stats"], ["sql", "SELECT 1"]] {
      let outcome = try bench.tool.start(arguments).wait()
      expectFailure(outcome, 65, "\(problem); \(hint)")
    }
    let verified = try bench.tool.run("verify")
    #expect(verified.ending == .exit(65) && verified.text.contains(problem), "\(verified)")
    let restored = bench.directory.file("restored.ram")
    try expectSuccess(bench.tool.run("restore", "a", "-o", restored))
    #expect(try readFile(restored) == ram)
  }

  @Test(.slow) func aViewThatLiesIsBounded() throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(4))
    try bench.sql.run(
      """
      DROP TABLE overlay_kind;
      CREATE TABLE overlay_kind (kind, priority, scope, contents);
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
      INSERT INTO overlay_kind SELECT 'hypercall', i, 'vm', 'derived' FROM n;
      PRAGMA foreign_keys = OFF;
      INSERT INTO overlay VALUES (1, 0, 'hypercall', 0, '{}', NULL, NULL, 0);
      """
    )
    let answer = try bench.tool.run("query", "overlays", "--json")
    #expect(answer.succeeded, "\(answer.standardError)")
    #expect(try answer.jsonObject()["truncated"] as? Bool == true)
    #expect((try answer.jsonObject()["rows"] as? [Any])?.count == 100_000)
    let text = try bench.tool.run("query", "overlays")
    #expect(text.standardError == "vmckpt: there are more rows than these 100000\n")

    try bench.sql.run(
      "UPDATE overlay_kind SET contents = zeroblob(9) WHERE priority = 1"
    )
    expectFailure(
      try bench.tool.run("query", "overlays"),
      65,
      "a row is damaged: it holds a value of another type; see what is hurt with: vmckpt verify"
    )
    try bench.sql.run(
      "UPDATE overlay_kind SET contents = hex(zeroblob(34000000)) WHERE priority = 1"
    )
    expectFailure(
      try bench.tool.run("query", "overlays"),
      65,
      "store \"\(bench.storePath)\" is damaged: it has a value that is longer than any of the format; "
        + "see what is hurt with: vmckpt verify"
    )
    try bench.sql.run(
      "UPDATE overlay_kind SET contents = hex(zeroblob(400))"
    )
    expectFailure(
      try bench.tool.run("query", "overlays"),
      65,
      "the answer has more than 67108864 bytes of text; see what is hurt with: vmckpt verify"
    )
  }

  /// Names as vmckpt would never give them, in a store that somebody else has made.
  @Test func aHostileNameIsNoSQLAndNoTerminalSequence() throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(4), "--vm", "v")
    let name = "x' OR '1'='1\"; .shell id\n.shell id\u{1B}[31m"
    let digits = name.utf8.map { String($0, radix: 16) }
      .map { $0.count == 1 ? "0\($0)" : $0 }.joined()
    try bench.sql.run("UPDATE snapshot SET name = CAST(x'\(digits)' AS TEXT)")
    try bench.save("b", sampleRAM(4, seed: 2), "--vm", "v")

    let text = try bench.tool.succeed("query", "lineage", "latest~1")
    #expect(!text.text.contains("\u{1B}"))
    #expect(text.text.split(separator: "\n").count == 2)

    let sql = try bench.tool.succeed("query", "lineage", "latest~1", "--sql")
    #expect(sql.text.hasPrefix(".parameter set :snapshot \"CAST(x'\(digits)' AS TEXT)\"\n-- "))
    let shell = try run(
      ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-readonly", "-json", bench.storePath],
      input: .file(try bench.write("query.sql", sql.text))
    )
    expectSuccess(shell)
    let rows = try JSONSerialization.jsonObject(with: Data(shell.standardOutput)) as? NSArray
    #expect((rows?[0] as? NSDictionary)?["snapshot"] as? String == name)
    #expect(rows?.count == 1)
  }

  @Test func aQueryWritesNothing() throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(4))
    let before = try readFile(bench.storePath)
    chmod(bench.storePath, 0o400)
    try bench.tool.succeed("query", "region-pages")
    chmod(bench.storePath, 0o600)
    try bench.tool.succeed("query", "region-pages")
    #expect(try readFile(bench.storePath) == before)
  }
}
