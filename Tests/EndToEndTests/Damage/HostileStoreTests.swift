import Glibc
import Testing
import VMCheckpointTestSupport

/// A store that somebody made to do harm: rows with values that no check would let in. Every
/// command ends with an exit code of the table; none crashes, hangs, or asks for all memory.
@Suite struct HostileStoreTests {
  private let bench: Workbench
  private let template: [UInt8]
  /// Puts back the table definitions that the mutations needed out of their way.
  private let restoreSchema: String

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 1)
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"reference-tsc","pfn":10,"tsc_frequency_hz":2400000000}"#,
        #"{"kind":"hypercall","pfn":10,"variant":"vmcall"}"#,
        #"{"kind":"synic-event","vp":0,"pfn":3,"contents":"\#(OverlayJSON.base64(generator.compressiblePage()))"}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    try bench.save("a", sampleRAM(80), "--overlays", overlays, "--tag", "k=v")
    try bench.save("b", sampleRAM(50) + sampleRAM(30, seed: 2), "--parent", "a")
    // Most of a chunk is dead, so that gc repacks it.
    try bench.save("c", (0..<32).flatMap { _ in generator.compressiblePage() })
    try bench.save("d", (0..<4).flatMap { _ in generator.compressiblePage() })
    try bench.sql.run(
      """
      INSERT INTO device_state
        SELECT id, 0, 'cpu', 'test', 1, 4096, randomblob(32), 'raw', randomblob(4096)
          FROM snapshot;
      DELETE FROM ram_extent WHERE snapshot_id = 3 AND first_pfn NOT IN (0, 16)
      """
    )
    let definitions = try bench.sql.run(
      "SELECT quote(name) || char(9) || quote(replace(sql, char(10), ' ')) FROM sqlite_schema WHERE type = 'table'"
    )
    restoreSchema = definitions.split(separator: "\n").map { line in
      let parts = line.split(separator: "\t")
      return "UPDATE sqlite_schema SET sql = \(parts[1]) WHERE name = \(parts[0]);"
    }.joined()
    try bench.sql.run(
      """
      PRAGMA writable_schema = ON;
      UPDATE sqlite_schema SET sql = replace(replace(replace(replace(sql,
        'IS NOT NULL', 'NOTNULL'), ') STRICT, WITHOUT ROWID', ') WITHOUT ROWID'),
        ') STRICT', ')'), ' NOT NULL', '') WHERE type = 'table'
      """
    )
    template = try readFile(bench.storePath)
  }

  private static let columns: [(table: String, columns: [String])] = [
    ("store", ["uuid", "created_at", "created_by", "fingerprint_seed"]),
    (
      "snapshot",
      [
        "id", "uuid", "name", "vm", "parent_id", "state", "started_at", "completed_at", "source",
        "producer", "guest_os_id", "cpu_vendor", "tsc_frequency_hz", "ram_bytes", "stored_pages",
        "ram_checksum", "new_pages", "new_stored_bytes", "ram_digest", "digest",
      ]
    ),
    ("snapshot_tag", ["snapshot_id", "key", "value"]),
    ("memory_region", ["snapshot_id", "gpa", "bytes", "file_offset", "name"]),
    ("chunk", ["id", "page_count", "stored_bytes", "encoding", "digests", "fingerprints"]),
    ("chunk_data", ["chunk_id", "data"]),
    (
      "ram_extent",
      ["snapshot_id", "first_pfn", "page_count", "chunk_id", "first_slot", "checksum"]
    ),
    ("page_index_run", ["id", "state", "entry_count", "filter_lines", "fences"]),
    ("page_index_block", ["id", "entries"]),
    ("page_index_filter", ["id", "bits"]),
    ("overlay_kind", ["kind", "priority", "scope", "contents"]),
    (
      "overlay",
      [
        "snapshot_id", "pfn", "kind", "vp", "parameters", "contents_chunk_id", "contents_slot",
        "baked",
      ]
    ),
    (
      "device_state",
      ["position", "name", "format", "version", "bytes", "sha256", "encoding", "data"]
    ),
  ]

  private static let values = [
    "NULL", "-1", "0", "1", "2", "15", "16", "17", "255", "4095", "4096", "65536", "2147483648",
    "4503599627370495", "4503599627370496", "288230376151711744", "576460752303423488",
    "9223372036854771712", "9223372036854775807", "-9223372036854775808", "1.5", "9e99", "''",
    "'text'", "'lz4'", "'raw'", "'writing'", "'complete'", "x''", "x'00'", "zeroblob(16)",
    "zeroblob(32)", "zeroblob(8)", "randomblob(4096)", "zeroblob(70000)",
    "char(27) || '[31m' || char(10)", "'{}'", "'{\"tsc_frequency_hz\":0}'", "id + 1", "-id",
  ]

  @Test(.slow, arguments: 0..<4)
  func valuesThatNoCheckLetsInDoNotCrashAnyCommand(part: Int) throws {
    var generator = TestGenerator(seed: UInt64(100 + part))
    for _ in 0..<soakRounds(20) {
      let mutations = (0..<generator.int(1...3)).map { _ in mutation(using: &generator) }
      try expectOrderly(mutations.joined(separator: "; "))
    }
  }

  /// What the fuzzing found once, and what is likely to be found.
  @Test(
    .slow,
    arguments: [
      "UPDATE chunk SET id = -id; UPDATE chunk_data SET chunk_id = -chunk_id; UPDATE ram_extent SET chunk_id = -chunk_id",
      "UPDATE chunk SET id = -5 WHERE id = 1; UPDATE ram_extent SET chunk_id = -5 WHERE chunk_id = 1",
      "UPDATE ram_extent SET first_pfn = -1 - first_pfn WHERE snapshot_id = 3",
      "UPDATE ram_extent SET first_pfn = 4503599627370495 - first_pfn",
      "UPDATE ram_extent SET first_slot = 15, page_count = 16",
      "UPDATE ram_extent SET page_count = 0", "UPDATE ram_extent SET first_slot = 200",
      "UPDATE memory_region SET bytes = 9223372036854771712",
      "UPDATE memory_region SET bytes = 4503599627370496, gpa = 0, file_offset = 0",
      "UPDATE snapshot SET stored_pages = 9223372036854775807, ram_bytes = 9223372036854771712",
      "UPDATE snapshot SET stored_pages = -1", "UPDATE snapshot SET parent_id = id",
      "UPDATE snapshot SET name = NULL, vm = NULL, uuid = NULL, digest = NULL",
      "UPDATE snapshot SET uuid = id, started_at = 1.5, completed_at = x'00'",
      "UPDATE chunk SET page_count = 200", "UPDATE chunk SET page_count = -1, digests = NULL",
      "UPDATE chunk_data SET data = zeroblob(20000000) WHERE chunk_id = 2",
      "UPDATE page_index_run SET fences = x'00', entry_count = -1",
      "UPDATE page_index_run SET entry_count = 9223372036854775807",
      "UPDATE page_index_run SET fences = randomblob(80000), entry_count = 10000000",
      "UPDATE page_index_block SET entries = randomblob(160000)",
      "UPDATE page_index_run SET filter_lines = 9223372036854775807",
      "UPDATE page_index_run SET filter_lines = 300000000",
      "UPDATE page_index_run SET filter_lines = 0",
      "UPDATE page_index_filter SET bits = zeroblob(20000000)",
      "UPDATE page_index_filter SET bits = x'00'", "UPDATE page_index_filter SET bits = 'text'",
      "UPDATE page_index_block SET entries = zeroblob(160)",
      "UPDATE page_index_block SET entries = x'ffffffffffffffffffffffffffffffff'",
      "UPDATE overlay SET vp = -1", "UPDATE overlay SET vp = 4294967296",
      "UPDATE overlay SET pfn = -1", "UPDATE overlay SET kind = 'lapic' WHERE kind = 'hypercall'",
      "UPDATE overlay SET vp = 5 WHERE kind = 'hypercall'", "UPDATE overlay SET baked = 'x'",
      "UPDATE overlay SET contents_chunk_id = 0, contents_slot = 300",
      "UPDATE overlay SET contents_chunk_id = NULL", "UPDATE overlay SET contents_slot = NULL",
      "UPDATE overlay SET parameters = '[' || zeroblob(10000)",
      "UPDATE device_state SET bytes = 536870912, encoding = 'lz4'",
      "UPDATE device_state SET bytes = -1", "UPDATE device_state SET data = NULL",
      "UPDATE device_state SET version = -1, sha256 = NULL", "DELETE FROM store",
      "UPDATE snapshot SET id = 9223372036854775807 WHERE id = 4",
      "UPDATE chunk SET id = 9223372036854775807 WHERE id = 1",
      "UPDATE page_index_run SET id = 9223372036854775807 WHERE id = 1",
      "UPDATE sqlite_sequence SET seq = 9223372036854775807",
      "UPDATE sqlite_sequence SET seq = 'x'",
    ]
  )
  func knownTraps(sql: String) throws {
    // The trap must be set: the store must really hold these values.
    #expect(try expectOrderly(sql) == "")
  }

  private func mutation(using generator: inout TestGenerator) -> String {
    let (table, columns) = Self.columns.randomElement(using: &generator)!
    let column = columns.randomElement(using: &generator)!
    var value = Self.values.randomElement(using: &generator)!
    if value.contains("id"), !value.contains("'") { value = value.replacing("id", with: column) }
    let condition =
      generator.oneIn(2)
      ? "" : " WHERE abs(random() % 3) = 0"
    return "UPDATE OR IGNORE \(table) SET \(column) = \(value)\(condition)"
  }

  /// Applies the mutation and runs every command.
  ///
  /// - Returns: What sqlite3 had to say against the mutation.
  @discardableResult
  private func expectOrderly(
    _ mutation: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> String {
    try writeFile(bench.storePath, template)
    let prepared = try run([
      "/usr/bin/env", "sqlite3", "-batch", bench.storePath,
      """
      PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
      PRAGMA writable_schema = ON; \(mutation); \(restoreSchema)
      """,
    ])
    let mutated = try readFile(bench.storePath)
    let source = try bench.write("source.ram", sampleRAM(90))
    let out = bench.directory.file("out.ram")
    let json = bench.directory.file("out.json")
    for arguments in [
      ["list"], ["list", "--json"], ["show", "a"], ["show", "b", "--json"], ["stats"],
      ["diff", "a", "b"], ["verify"], ["verify", "a"],
      ["restore", "a", "-o", out, "--force", "--overlays-out", json, "--tsc-frequency", "3G"],
      ["restore", "c", "-o", out, "--force"], ["restore", "b", "-o", "-", "--verify"],
      ["tag", "a", "x=y"], ["save", source, "--name", "new", "--parent", "a"],
      ["save", source, "--name", "newer"], ["gc", "--dry-run"], ["gc"], ["delete", "d"], ["gc"],
      ["delete", "latest~1", "a"], ["verify"],
    ] {
      // Read into nowhere, and no terabyte of zeros.
      let child = try bench.tool.start(
        arguments,
        outputDescriptor: arguments.contains("-") ? Self.nowhere : nil
      )
      let outcome = try child.wait()
      #expect(
        outcome.endedOrderly,
        "after \(mutation)\n\(prepared.standardError)\(outcome)",
        sourceLocation: sourceLocation
      )
      #expect(
        outcome.maximumResidentByteCount < 512 << 20,
        "after \(mutation)\n\(outcome)",
        sourceLocation: sourceLocation
      )
      if !outcome.endedOrderly { try writeFile(bench.storePath, mutated) }
    }
    unlink(out)
    return prepared.standardError
  }

  private static let nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC)
}
