import Testing
import VMCheckpointTestSupport

/// Every reader proves that it has the pages that were saved, without being asked to: damage that leaves
/// each row valid by itself must not give another guest's bytes with exit code 0.
@Suite struct RightPagesTests {
  private let bench: Workbench
  private let a: [UInt8]
  private let b: [UInt8]

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 21)
    // No page is zero or equal to another, so that every change of a row changes bytes.
    a = (0..<64).flatMap { _ in generator.compressiblePage() }
    b = (0..<64).flatMap { _ in generator.compressiblePage() }
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"reference-tsc","pfn":10,"tsc_frequency_hz":2400000000}"#,
        #"{"kind":"hypercall","pfn":12,"variant":"vmcall"}"#,
        #"{"kind":"synic-event","vp":0,"pfn":3,"contents":"\#(OverlayJSON.base64(generator.compressiblePage()))"}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    try bench.save("a", a, "--overlays", overlays, "--region", "gpa=0,size=256K,name=low")
    try bench.save("b", b, "--no-parent")
  }

  /// What is changed in the store, each leaving rows that are valid one by one.
  private static let extentDamage = [
    "UPDATE ram_extent SET chunk_id = chunk_id + 1 WHERE snapshot_id = 1 AND first_pfn = 16",
    "UPDATE ram_extent SET chunk_id = (SELECT chunk_id FROM ram_extent WHERE snapshot_id = 2 AND first_pfn = 0) WHERE snapshot_id = 1 AND first_pfn = 0",
    "UPDATE ram_extent SET page_count = 1 WHERE snapshot_id = 1 AND first_pfn = 16",
    "DELETE FROM ram_extent WHERE snapshot_id = 1 AND first_pfn = 16",
    // Two rows that differ in one key only, exchanged.
    """
    CREATE TEMP TABLE t AS SELECT * FROM ram_extent WHERE first_pfn = 0;
    UPDATE ram_extent SET (chunk_id, first_slot, checksum) = (
      SELECT chunk_id, first_slot, checksum FROM t WHERE t.snapshot_id <> ram_extent.snapshot_id)
     WHERE first_pfn = 0
    """,
    // One that was moved with all that it has to a PFN where another was lost.
    """
    DELETE FROM ram_extent WHERE snapshot_id = 1 AND first_pfn = 32;
    UPDATE ram_extent SET first_pfn = 32 WHERE snapshot_id = 1 AND first_pfn = 16
    """,
    // A chunk's row, or both of its rows, in the place of another's.
    """
    CREATE TEMP TABLE t AS SELECT * FROM chunk;
    UPDATE chunk SET (digests, fingerprints, stored_bytes) = (
      SELECT digests, fingerprints, stored_bytes FROM t WHERE t.id = chunk.id + 1) WHERE id = 1;
    UPDATE chunk_data SET data = (SELECT data FROM chunk_data WHERE chunk_id = 2) WHERE chunk_id = 1
    """,
    "UPDATE snapshot SET ram_checksum = ram_checksum + 1 WHERE id = 1",
    "UPDATE snapshot SET stored_pages = stored_pages - 1 WHERE id = 1",
  ]

  private static let otherDamage = [
    "UPDATE chunk_data SET data = (SELECT data FROM chunk_data WHERE chunk_id = 2) WHERE chunk_id = 1",
    "UPDATE memory_region SET bytes = bytes + 4096 WHERE snapshot_id = 1",
    "UPDATE memory_region SET bytes = bytes - 4096 WHERE snapshot_id = 1",
    "UPDATE memory_region SET file_offset = 4096 WHERE snapshot_id = 1",
    "UPDATE memory_region SET name = 'high' WHERE snapshot_id = 1",
    "UPDATE snapshot SET ram_bytes = ram_bytes + 4096 WHERE id = 1",
    "UPDATE snapshot SET cpu_vendor = 'amd' WHERE id = 1",
    "UPDATE snapshot SET tsc_frequency_hz = tsc_frequency_hz + 1 WHERE id = 1",
    "UPDATE snapshot SET guest_os_id = '0x8100060100000001' WHERE id = 1",
    "UPDATE overlay SET pfn = 13 WHERE kind = 'hypercall'",
    #"UPDATE overlay SET parameters = '{"variant":"vmmcall"}' WHERE kind = 'hypercall'"#,
    "UPDATE overlay SET contents_slot = contents_slot + 1 WHERE kind = 'synic-event'",
    "UPDATE overlay SET contents_chunk_id = 2 WHERE kind = 'synic-event'",
    "DELETE FROM overlay WHERE kind = 'reference-tsc'",
    "INSERT INTO device_state SELECT 1, 0, 'cpu', 'test', 1, 1, zeroblob(32), 'raw', x'00'",
  ]

  @Test(.slow, arguments: extentDamage + otherDamage)
  func aPlainRestoreGivesNoBytesThatWereNotSaved(damage: String) throws {
    try bench.sql.run("PRAGMA foreign_keys = OFF; \(damage)")
    let output = bench.directory.file("out")
    for option in ["--overlays=apply", "--overlays=omit"] {
      let outcome = try bench.tool.run("restore", "a", "-o", output, option)
      #expect(outcome.ending == .exit(65), "\(outcome)")
      #expect(!exists(output))
      #expect(outcome.standardError.contains("damaged"), "\(outcome)")
    }
    let stream = try bench.tool.run("restore", "a", "-o", "-")
    #expect(stream.ending == .exit(65), "\(stream)")
    #expect(try bench.tool.run("verify").ending == .exit(65))
  }

  @Test(.slow, arguments: extentDamage.dropLast(2))
  func noFunctionOfSQLReadsPagesThatWereNotSaved(damage: String) throws {
    try bench.sql.run("PRAGMA foreign_keys = OFF; \(damage)")
    let shell = ExtensionShell(bench.storePath)
    for pfn in 0..<64 {
      let outcome = try shell.start("SELECT hex(page_data('a', \(pfn)));")
      let isRight = outcome.standardOutput.starts(
        with: hexText(a[(pfn * 4096)..<((pfn + 1) * 4096)]).utf8
      )
      #expect(isRight || !outcome.succeeded, "PFN \(pfn)")
    }
    for question in [
      "SELECT count(digest) FROM ram_page('a');", "SELECT count(*) FROM ram_search('a', 'never');",
      "SELECT count(*) FROM ram_strings('a', 8);",
    ] {
      #expect(try shell.failure(question).contains("damaged"), "\(question)")
    }
  }

  /// A copy of a store has its seed, and gives the same ids to other snapshots.
  @Test func extentsOfACopyOfTheStoreAreNotTakenForItsOwn() throws {
    let copy = bench.directory.file("copy.db")
    let before = try readFile(bench.storePath)
    try bench.save("n", a, "--no-parent")
    try writeFile(copy, try readFile(bench.storePath))
    try writeFile(bench.storePath, before)
    try bench.save("n", b, "--no-parent")
    try bench.sql.run(
      """
      ATTACH '\(copy)' AS copy;
      DELETE FROM ram_extent;
      INSERT INTO ram_extent SELECT * FROM copy.ram_extent
      """
    )
    #expect(try bench.tool.run("restore", "n", "-o", "-").ending == .exit(65))
    let shell = ExtensionShell(bench.storePath)
    #expect(try shell.failure("SELECT hex(page_data('n', 1));").contains("damaged"))
    // Even with the copy's sum of all extents.
    try bench.sql.run(
      """
      ATTACH '\(copy)' AS copy;
      UPDATE snapshot SET ram_checksum = (
        SELECT ram_checksum FROM copy.snapshot c WHERE c.id = snapshot.id)
      """
    )
    let diff = try bench.tool.run("diff", "n", "b")
    #expect(diff.ending == .exit(65), "\(diff)")
    #expect(diff.standardError.contains("damaged"), "\(diff)")
  }

  /// It would call pages unchanged, or changed, that are not those of the snapshot.
  @Test(arguments: extentDamage)
  func noDiffIsMadeOfExtentsThatWereNotWritten(damage: String) throws {
    try bench.sql.run("PRAGMA foreign_keys = OFF; \(damage)")
    let outcome = try bench.tool.run("diff", "a", "b")
    #expect(outcome.ending == .exit(65), "\(outcome)")
  }

  /// What they show would be taken to another host.
  @Test(.slow, arguments: otherDamage.dropFirst())
  func neitherShowNorDiffTellsOfWhatWasNotSaved(damage: String) throws {
    try bench.sql.run("PRAGMA foreign_keys = OFF; \(damage)")
    #expect(try bench.tool.run("show", "a").ending == .exit(65))
    #expect(try bench.tool.run("diff", "a", "b").ending == .exit(65))
  }

  /// A new checksum would hide that the extent is another than was written.
  @Test(arguments: ["gc", "optimize"])
  func damageIsNotMadeValidByMovingPages(command: String) throws {
    // Most of the chunk is dead, so that gc repacks it.
    var few = a
    for page in 0..<64 where page % 8 != 0 {
      few.replaceSubrange((page * 4096)..<((page + 1) * 4096), with: repeatElement(0, count: 4096))
    }
    try bench.save("few", few)
    try bench.tool.succeed("delete", "a")
    try bench.sql.run(
      "UPDATE ram_extent SET first_slot = 1 - first_slot % 2 WHERE snapshot_id = 3 AND first_pfn = 8"
    )
    try bench.tool.succeed(command)
    #expect(try bench.tool.run("restore", "few", "-o", "-").ending == .exit(65))
    #expect(try bench.tool.run("verify").ending == .exit(65))
    #expect(try bench.restore("b") == b)
  }

  /// Who has lost the seed still has SHA-256s, which need none.
  @Test(arguments: [
    "DELETE FROM store", "UPDATE store SET fingerprint_seed = fingerprint_seed + 1",
  ])
  func withoutTheSeedSnapshotsAreRestoredByTheirDigests(damage: String) throws {
    try bench.sql.run(damage)
    let output = bench.directory.file("out")
    #expect(try bench.tool.run("restore", "b", "-o", output).ending == .exit(65))
    try bench.tool.succeed("restore", "b", "-o", output, "--verify")
    #expect(try readFile(output) == b)
    #expect(try bench.tool.run("verify").ending == .exit(65))
  }
}
