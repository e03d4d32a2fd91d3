import Testing
import VMCheckpointTestSupport

/// Whatever bytes a store has, the functions give rows or an error: no crash, no hang, and not all
/// of the machine's memory.
@Suite struct MutatedStoreTests {
  private let bench: Workbench
  private let template: [UInt8]

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 1)
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":10,"variant":"vmcall"}"#,
        #"{"kind":"synic-event","vp":0,"pfn":3,"contents":"\#(OverlayJSON.base64(generator.compressiblePage()))"}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    try bench.save("a", sampleRAM(80), "--overlays", overlays, "--vm", "v")
    try bench.save("b", sampleRAM(50) + sampleRAM(30, seed: 2), "--vm", "v")
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

  /// Every function that reads the store.
  private static let questions = [
    "SELECT sum(length(page_data('latest', value))), sum(length(page_view(1, value))) FROM generate_series(0, 90)",
    "SELECT length(ram_read('b~1', 4000, 300000))",
    "SELECT count(*), max(snapshots), sum(stored_bytes) FROM (SELECT * FROM ram_page('a') LIMIT 200)",
    "SELECT count(*), sum(different_bytes) FROM ram_diff(1, 2)",
    "SELECT count(context) FROM (SELECT * FROM ram_search('a', x'00ff') LIMIT 1000)",
    "SELECT sum(length) FROM (SELECT * FROM ram_strings('latest', 4) LIMIT 1000)",
    "SELECT group_concat(state) FROM page_history('v', 5)",
    "SELECT count(*) FROM page_owners((SELECT digest FROM stored_page LIMIT 1))",
    "SELECT length(overlay_contents(kind, parameters, contents_chunk_id, contents_slot)) FROM overlay",
    "SELECT lz4_frame_decode(data) FROM chunk_data",
    "SELECT chunk_pages(encoding, data) FROM chunk_data JOIN chunk ON id = chunk_id",
  ]

  private func expectSurvival(
    _ store: [UInt8],
    _ what: String,
    questions: [String] = questions
  ) throws {
    let path = bench.directory.file("mutated.db")
    try writeFile(path, store)
    // One shell for all questions: an error ends a statement, not the shell. Where a mutation made
    // keys of 30 MB, SQLite reads all of one for each comparison: 6 s of CPU, more on a busy machine.
    let script = questions.map { "\($0);\n" }.joined()
    let outcome = try ExtensionShell(path).start(script, isStopping: false)
    #expect(outcome.ending == .exit(0) || outcome.ending == .exit(1), "\(what): \(outcome)")
    #expect(outcome.maximumResidentByteCount < 400 << 20, "\(what)")
  }

  @Test(.slow) func flippedBytesDoNoHarm() throws {
    var generator = TestGenerator(seed: 2)
    for round in 0..<120 {
      var store = template
      for _ in 0..<generator.int(1...40) {
        // The header of the file is SQLite's own business; half of the rest is page data.
        let offset = generator.int(100...(store.count - 1))
        store[offset] = UInt8(generator.int(0...255))
      }
      try expectSurvival(store, "round \(round)")
    }
  }

  private static let columns: [(table: String, columns: [String])] = [
    (
      "snapshot",
      ["id", "name", "vm", "parent_id", "uuid", "completed_at", "ram_bytes", "ram_checksum"]
    ),
    ("memory_region", ["gpa", "bytes", "file_offset", "name"]),
    ("chunk", ["id", "page_count", "stored_bytes", "encoding", "digests", "fingerprints"]),
    ("chunk_data", ["chunk_id", "data"]),
    (
      "ram_extent",
      ["snapshot_id", "first_pfn", "page_count", "chunk_id", "first_slot", "checksum"]
    ),
    ("store", ["fingerprint_seed"]),
    (
      "overlay", ["pfn", "kind", "vp", "parameters", "contents_chunk_id", "contents_slot", "baked"]
    ),
  ]

  private static let values = [
    "NULL", "-1", "0", "1", "17", "4095", "4096", "1 << 40", "9223372036854775807",
    "-9223372036854775807 - 1", "1e300", "''", "'x'", "x''", "zeroblob(31)", "randomblob(512)",
    "zeroblob(70000)", "zeroblob(30000000)", "printf('%.*c', 100000, 'x')", "'lz4'", "'raw'",
  ]

  @Test(.slow) func impossibleValuesDoNoHarm() throws {
    var generator = TestGenerator(seed: 3)
    var storeCount = 0
    for round in 0..<150 {
      try writeFile(bench.storePath, template)
      var sql = "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF;"
      for _ in 0..<generator.int(1...3) {
        let (table, columns) = Self.columns[generator.int(0...(Self.columns.count - 1))]
        let column = columns[generator.int(0...(columns.count - 1))]
        let value = Self.values[generator.int(0...(Self.values.count - 1))]
        let rows = generator.oneIn(2) ? "" : " WHERE abs(random()) % 3 = 0"
        sql += "UPDATE OR REPLACE \(table) SET \(column) = \(value)\(rows);"
      }
      // SQLite itself refuses some, such as a text as a row's id.
      guard (try? bench.sql.run(sql)) != nil else { continue }
      storeCount += 1
      try expectSurvival(try readFile(bench.storePath), "round \(round): \(sql)")
    }
    #expect(storeCount > 75)
  }

  @Test func smuggledViewsAndCyclesAreRefused() throws {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
    for mutation in [
      "DROP TABLE chunk_data; CREATE VIEW chunk_data AS \(endless) i AS chunk_id, x'00' AS data FROM n",
      "DROP TABLE ram_extent; CREATE VIEW ram_extent AS \(endless) 1 AS snapshot_id, i AS first_pfn, 1 AS page_count, 1 AS chunk_id, 0 AS first_slot, 0 AS checksum FROM n",
      "UPDATE snapshot SET parent_id = 2",
      "DROP VIEW stored_page; CREATE VIEW stored_page AS SELECT hex(page_data('a', 1)) AS digest",
    ] {
      try writeFile(bench.storePath, template)
      try bench.sql.run("PRAGMA foreign_keys = OFF; \(mutation)")
      // What the shell itself reads of an endless view is endless.
      let questions = Self.questions.filter { question in
        ["stored_page", "overlay", "chunk_data"].allSatisfy { !question.contains("FROM \($0)") }
      }
      try expectSurvival(try readFile(bench.storePath), mutation, questions: questions)
    }
    // The last mutation's view would run the extension's functions in the store's name.
    let shell = ExtensionShell(bench.storePath)
    #expect(try shell.failure("SELECT * FROM stored_page;").contains("unsafe use of page_data"))
  }

  /// Fuzzing found it: the shell could not close such a store.
  @Test(arguments: [
    "CREATE TABLE vmckpt_help (name)", "CREATE VIEW VMCKPT_HELP AS SELECT 1 AS name",
    "CREATE TABLE ram_page (pfn, gpa, state)",
  ])
  func aTableWithTheNameOfAFunctionIsRefused(sql: String) throws {
    try bench.sql.run(sql)
    let outcome = try ExtensionShell(bench.storePath).start("SELECT length(page_data('a', 1));")
    #expect(outcome.ending == .exit(1), "\(outcome)")
    #expect(outcome.standardError.contains("name of a function"), "\(outcome)")
    #expect(!outcome.standardError.contains("sqlite3_close"), "\(outcome)")
  }
}
