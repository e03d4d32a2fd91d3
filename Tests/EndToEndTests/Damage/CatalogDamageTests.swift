import Testing
import VMCheckpointTestSupport

/// Damage that no digest covers is told as well.
@Suite struct CatalogDamageTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save("a", sampleRAM(40), "--vm", "v", "--tag", "k=v")
    try bench.save("b", sampleRAM(40, seed: 2), "--vm", "v")
  }

  @Test(
    .slow,
    arguments: [
      ("UPDATE chunk SET stored_bytes = stored_bytes + 1 WHERE id = 1", "stored bytes"),
      (
        "UPDATE chunk SET fingerprints = zeroblob(length(fingerprints)) WHERE id = 1",
        "a wrong fingerprint for slot 0"
      ),
      (
        "PRAGMA ignore_check_constraints = ON; UPDATE chunk SET fingerprints = x'00' WHERE id = 1",
        "a wrong number of fingerprints"
      ),
      (
        "DELETE FROM snapshot WHERE name = 'a'",
        "table ram_extent has rows of snapshot 1, whose own row is missing"
      ),
      ("DELETE FROM store", "table store has no row"),
      ("UPDATE store SET uuid = 'x'||substr(uuid, 2)", "the store's UUID is not a UUID"),
      (
        "UPDATE store SET created_at = 'yesterday'",
        "the time at which the store was made is not a time"
      ),
      ("UPDATE overlay_kind SET priority = 9 WHERE kind = 'hypercall'", "overlay_kind"),
      ("DELETE FROM overlay_kind WHERE kind = 'vp-assist'", "overlay_kind"),
      ("UPDATE snapshot SET parent_id = id WHERE name = 'b'", "its parent is not older than it is"),
      ("UPDATE snapshot SET parent_id = 2 WHERE name = 'a'", "its parent is not older than it is"),
      ("UPDATE snapshot SET parent_id = 77 WHERE name = 'b'", "its parent, row 77, is missing"),
      ("UPDATE snapshot SET name = 'b' || char(10) WHERE name = 'b'", "breaks the rules for names"),
      ("UPDATE snapshot SET vm = 'v' || char(27)", "its VM's name breaks the rules for names"),
      ("UPDATE snapshot SET completed_at = 'never'", "its column completed_at is not a time"),
      ("UPDATE snapshot SET source = char(7)", "its column source holds control characters"),
      ("UPDATE snapshot_tag SET value = char(27)", "invalid value for tag \\\"k\\\""),
      ("DELETE FROM page_index_block WHERE id / 16777216 = 2", "run 2: its block 0 is missing"),
      (
        "UPDATE page_index_block SET entries = substr(entries, 1, length(entries) - 16)",
        "run 1: its block 0 is damaged"
      ),
      (
        """
        UPDATE page_index_block SET entries =
          CAST(substr(entries, 1, 16) || substr(entries, 33, 16) || substr(entries, 17, 16)
            || substr(entries, 49) AS BLOB)
        """, "run 1: its block 0 is damaged"
      ),
      (
        "INSERT INTO page_index_block SELECT id + 1, entries FROM page_index_block",
        "run 1: it has more blocks than it should"
      ),
      ("UPDATE page_index_run SET fences = zeroblob(8)", "run 1: its block 0 is damaged"),
    ]
  )
  func isNamed(sql: String, message: String) throws {
    try bench.sql.run("PRAGMA foreign_keys = OFF; \(sql)")
    let outcome = try bench.tool.run("verify", "--json")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.text.contains(message), "\(outcome)")
    #expect(!outcome.text.contains("vmckpt verify"))
  }

  /// A new snapshot that named chunks which cannot be read would be damaged from its first moment, although
  /// its source is at hand.
  @Test(arguments: [
    "UPDATE chunk SET encoding = 'zstd'",
    "PRAGMA ignore_check_constraints = ON; UPDATE chunk SET page_count = page_count + 1",
    "PRAGMA ignore_check_constraints = ON; UPDATE chunk SET digests = substr(digests, 1, 32)",
  ])
  func aSaveDoesNotRelyOnChunksThatCannotBeRead(sql: String) throws {
    let bench = try Workbench()
    let ram = sampleRAM(64)
    try bench.save("a", ram, "--vm", "v")
    try bench.sql.run(sql)
    for (name, options) in [("child", ["--vm", "v"]), ("alone", ["--no-parent", "--vm", "w"])] {
      let source = try bench.write("\(name).ram", ram)
      expectSuccessIgnoringOutput(
        try bench.tool.start(["save", source, "--name", name] + options).wait()
      )
      #expect(try bench.restore(name) == ram, "\(name)")
    }
  }

  private func expectSuccessIgnoringOutput(_ outcome: ProcessOutcome) {
    #expect(outcome.succeeded, "\(outcome)")
  }

  /// A save that the index makes impossible must say what is wrong and what helps, and that must help.
  @Test(arguments: [
    (
      "UPDATE sqlite_sequence SET seq = 274877906943 WHERE name = 'page_index_run'",
      "the page index has no number left for another run"
    ),
    (
      "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'page_index_run'",
      "the page index has no number left for another run"
    ),
    ("UPDATE page_index_run SET fences = x''", "run 1 of the page index is damaged"),
  ])
  func anIndexThatStopsSavesCanBeGivenUp(sql: String, message: String) throws {
    var generator = TestGenerator(seed: 8)
    let ram = generator.mixedImage(pageCount: 50)
    try bench.sql.run(sql)
    let source = try bench.write("new.ram", ram)
    expectFailure(
      try bench.tool.run("save", source, "--name", "new"),
      65,
      "\(message); no snapshot needs the index; Recovery.md says how to give it up"
    )
    try bench.sql.run(
      """
      DELETE FROM page_index_run; DELETE FROM page_index_block; DELETE FROM page_index_filter;
      DELETE FROM sqlite_sequence WHERE name = 'page_index_run'
      """
    )
    try bench.save("new", ram)
    #expect(try bench.restore("new") == ram)
    expectSuccess(try bench.tool.run("verify"))
  }

  @Test func parentsThatGoRoundInCirclesEnd() throws {
    try bench.sql.run(
      "UPDATE snapshot SET parent_id = 2 WHERE name = 'a'; UPDATE snapshot SET parent_id = 1 "
        + "WHERE name = 'b'"
    )
    for reference in ["b~5", "a~1"] {
      let outcome = try bench.tool.run("show", reference)
      #expect(outcome.ending == .exit(65), "\(outcome)")
      #expect(outcome.standardError.contains("its parent is not older than it is"))
    }
  }

  @Test func aBrokenSchemaIsDamageAndNoReadError() throws {
    try bench.sql.run(
      "PRAGMA writable_schema = ON; "
        + "UPDATE sqlite_schema SET sql = 'CREATE TABLE chunk (' WHERE name = 'chunk'"
    )
    for verb in ["list", "verify", "gc"] {
      let outcome = try bench.tool.run(verb)
      #expect(outcome.ending == .exit(65), "\(outcome)")
    }
  }

  @Test func aSaveDoesNotRelyOnAChunkWithoutData() throws {
    let ram = sampleRAM(40)
    try bench.sql.run("PRAGMA foreign_keys = OFF; DELETE FROM chunk_data")
    for (name, options) in [("child", ["--vm", "v"]), ("other", ["--vm", "w"])] {
      let source = try bench.write("\(name).ram", ram)
      let outcome = try bench.tool.start(["save", source, "--name", name] + options).wait()
      expectSuccess(outcome)
      #expect(try bench.restore(name) == ram)
    }
  }

  @Test func aMapDoesNotLeaveOutPagesThatAreNowhere() throws {
    try bench.sql.run("UPDATE ram_extent SET first_pfn = first_pfn + 60000")
    expectFailure(
      try bench.tool.run("map", "b"),
      65,
      "the extent at PFN 0xea60 is damaged; see what is hurt with: vmckpt verify"
    )
  }

  /// Extents that claim to be long made each of one snapshot be compared with all of the other.
  @Test(.slow) func impossibleLengthsDoNotMakeAQueryQuadratic() throws {
    let pageCount = 40_000
    try bench.sql.run(
      """
      PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF;
      DELETE FROM ram_extent;
      INSERT INTO ram_extent SELECT s.id, p.value, 9223372036854775807, 1, 0, 0
        FROM (SELECT id FROM snapshot WHERE state = 'complete' ORDER BY id DESC LIMIT 2) s,
             generate_series(0, \(pageCount - 1)) p
      """
    )
    let outcome = try bench.tool.start(["query", "changes"]).wait()
    #expect(outcome.ending == .exit(0) || outcome.ending == .exit(65), "\(outcome)")
    // Each with each of them would be 1.6 billion.
    #expect(outcome.processorSeconds < 60, "\(outcome)")
  }

  @Test(.slow, arguments: ["first_slot = 15", "page_count = 16, first_slot = 9"])
  func aCollectionGoesOnPastADamagedExtent(change: String) throws {
    // Chunks that are mostly dead: of 40 pages, one in eight stays.
    var ram = sampleRAM(400, seed: 7)
    try bench.save("all", ram)
    for page in 0..<400 where page % 8 != 0 {
      ram.replaceSubrange((page * 4096)..<((page + 1) * 4096), with: repeatElement(0, count: 4096))
    }
    try bench.save("few", ram)
    try bench.tool.succeed("delete", "all")
    try bench.sql.run(
      "UPDATE ram_extent SET \(change) WHERE (snapshot_id, first_pfn) IN "
        + "(SELECT snapshot_id, first_pfn FROM ram_extent ORDER BY snapshot_id DESC LIMIT 1)"
    )
    let outcome = try bench.tool.run("gc")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try bench.tool.verify().ending == .exit(65))
    #expect(try bench.restore("b") == sampleRAM(40, seed: 2))
  }
}
