import Testing
import VMCheckpointTestSupport

/// `verify` names what is damaged and whom it hurts; `restore` never gives wrong bytes.
@Suite struct DamageTests {
  private let bench: Workbench
  private let a: [UInt8]
  private let b: [UInt8]

  init() throws {
    bench = try Workbench()
    var generator = TestGenerator(seed: 1)
    let shared = (0..<32).flatMap { _ in generator.compressiblePage() }
    a = shared + (0..<64).flatMap { _ in generator.compressiblePage() }
    b = shared + (0..<32).flatMap { _ in generator.incompressiblePage() }
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"hypercall","pfn":40,"variant":"vmcall"}"#,
        #"{"kind":"synic-event","vp":0,"pfn":41,"contents":"\#(OverlayJSON.base64(generator.compressiblePage()))"}"#
      )
    )
    try bench.save("a", a, "--overlays", overlays)
    try bench.save("b", b)
  }

  /// Damages the store by SQL; expects `verify` to say so and to name these snapshots.
  private func expectDamage(
    _ sql: String,
    subject: String,
    message: String,
    hurts: [String],
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try bench.sql.run("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; \(sql)")
    let outcome = try bench.tool.run("verify", "--json")
    #expect(outcome.ending == .exit(65), "\(outcome)", sourceLocation: sourceLocation)
    let report = try outcome.jsonObject()
    let problems = report["problems"] as? [[String: Any]] ?? []
    let found = problems.contains { problem in
      problem["subject"] as? String == subject
        && (problem["message"] as? String)?.contains(message) == true
    }
    #expect(found, "\(problems)", sourceLocation: sourceLocation)
    #expect(
      (report["damaged_snapshots"] as? [String])?.sorted() == hurts,
      sourceLocation: sourceLocation
    )
    // The others come back as they were, and a damaged one as it was or not at all.
    for (name, ram) in [("a", a), ("b", b)] {
      let path = bench.directory.file("\(name).out")
      let restored = try bench.tool.run(
        "restore",
        name,
        "-o",
        path,
        "--overlays",
        "omit",
        "--verify"
      )
      #expect(restored.endedOrderly, "\(restored)", sourceLocation: sourceLocation)
      if !hurts.contains(name) {
        #expect(restored.succeeded, "\(restored)", sourceLocation: sourceLocation)
      }
      if exists(path) {
        #expect(try readFile(path) == ram, "\(name)", sourceLocation: sourceLocation)
      }
    }
  }

  /// A chunk that only `name` uses, or both.
  private func chunk(ofPFN pfn: Int, in name: String) throws -> Int {
    try bench.sql.integer(
      "SELECT chunk_id FROM stored_page WHERE snapshot = '\(name)' AND pfn = \(pfn)"
    )
  }

  @Test func aFlippedByteInAnLZ4Chunk() throws {
    let id = try chunk(ofPFN: 50, in: "a")
    try flip(chunk: id)
    try expectDamage("SELECT 1", subject: "chunk \(id)", message: "", hurts: ["a"])
  }

  @Test func aFlippedByteInARawChunk() throws {
    let id = try chunk(ofPFN: 40, in: "b")
    #expect(try bench.sql.run("SELECT encoding FROM chunk WHERE id = \(id)") == "raw")
    try flip(chunk: id)
    try expectDamage("SELECT 1", subject: "chunk \(id)", message: "SHA-256", hurts: ["b"])
  }

  @Test func aFlippedByteInASharedChunkHurtsBoth() throws {
    let id = try chunk(ofPFN: 3, in: "b")
    try flip(chunk: id)
    try expectDamage("SELECT 1", subject: "chunk \(id)", message: "", hurts: ["a", "b"])
    let outcome = try bench.tool.run("verify", "--json")
    let problems = try outcome.jsonObject()["problems"] as? [[String: Any]]
    let damage = problems?.first?["damage"] as? [[String: Any]]
    #expect(damage?.compactMap { $0["snapshot"] as? String } == ["a", "b"])
    for victim in damage ?? [] {
      let pages = victim["pages"] as? [[String: Any]]
      #expect(pages?.first?["first_pfn"] as? Int == 0)
    }
  }

  private func flip(chunk id: Int) throws {
    let hex = try bench.sql.run("SELECT hex(data) FROM chunk_data WHERE chunk_id = \(id)")
    var digits = Array(hex.utf8)
    digits[401] = digits[401] == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
    let damaged = String(decoding: digits, as: UTF8.self)
    // Too long for an argument of a process.
    let script = try bench.write(
      "flip.sql",
      "UPDATE chunk_data SET data = x'\(damaged)' WHERE chunk_id = \(id);"
    )
    try bench.sql.run(".read \(script)")
  }

  @Test func aChangedDigest() throws {
    let id = try chunk(ofPFN: 50, in: "a")
    try expectDamage(
      "UPDATE chunk SET digests = zeroblob(length(digests)) WHERE id = \(id)",
      subject: "chunk \(id)",
      message: "does not have its SHA-256",
      hurts: ["a"]
    )
  }

  @Test func aMissingChunk() throws {
    let id = try chunk(ofPFN: 50, in: "a")
    try expectDamage(
      "DELETE FROM chunk_data WHERE chunk_id = \(id); DELETE FROM chunk WHERE id = \(id)",
      subject: "chunk \(id)",
      message: "missing",
      hurts: ["a"]
    )
  }

  @Test func missingChunkData() throws {
    let id = try chunk(ofPFN: 50, in: "a")
    try expectDamage(
      "DELETE FROM chunk_data WHERE chunk_id = \(id)",
      subject: "chunk \(id)",
      message: "missing",
      hurts: ["a"]
    )
  }

  @Test func anExtentThatNamesOtherPages() throws {
    try expectDamage(
      """
      UPDATE ram_extent SET chunk_id = chunk_id + 1
        WHERE snapshot_id = 1 AND first_pfn = (
          SELECT first_pfn FROM ram_extent WHERE snapshot_id = 1 AND first_pfn >= 32 LIMIT 1)
      """,
      subject: "snapshot \"a\"",
      message: "its RAM does not have its digest",
      hurts: ["a"]
    )
  }

  @Test func anExtentThatIsMissing() throws {
    try expectDamage(
      "DELETE FROM ram_extent WHERE snapshot_id = 2 AND first_pfn = 0",
      subject: "snapshot \"b\"",
      message: "pages instead of",
      hurts: ["b"]
    )
  }

  @Test func anExtentOutsideRAM() throws {
    try expectDamage(
      "UPDATE ram_extent SET first_pfn = first_pfn + 100000 WHERE snapshot_id = 2",
      subject: "snapshot \"b\"",
      message: "is not RAM",
      hurts: ["b"]
    )
  }

  @Test func overlayParametersThatWereChanged() throws {
    try expectDamage(
      #"UPDATE overlay SET parameters = '{"variant":"vmmcall"}' WHERE kind = 'hypercall'"#,
      subject: "snapshot \"a\"",
      message: "do not have its digest",
      hurts: ["a"]
    )
  }

  @Test func overlayParametersThatMakeNoSense() throws {
    try expectDamage(
      #"UPDATE overlay SET parameters = '{"variant":"none"}' WHERE kind = 'hypercall'"#,
      subject: "snapshot \"a\"",
      message: "",
      hurts: ["a"]
    )
  }

  @Test func overlayContentsThatAreElsewhere() throws {
    try expectDamage(
      "UPDATE overlay SET contents_slot = 15 WHERE contents_slot IS NOT NULL",
      subject: "snapshot \"a\"",
      message: "",
      hurts: ["a"]
    )
  }

  @Test func anOverlayThatIsMissing() throws {
    try expectDamage(
      "DELETE FROM overlay WHERE kind = 'hypercall'",
      subject: "snapshot \"a\"",
      message: "do not have its digest",
      hurts: ["a"]
    )
  }

  @Test func aRegionThatWasMoved() throws {
    try expectDamage(
      "UPDATE memory_region SET gpa = 4096 WHERE snapshot_id = 2",
      subject: "snapshot \"b\"",
      message: "",
      hurts: ["b"]
    )
  }

  /// One damaged page of the file must not hide what else is damaged.
  @Test func everyDamagedChunkIsNamedBesideADamagedDatabasePage() throws {
    let others = try [
      chunk(ofPFN: 40, in: "b"), chunk(ofPFN: 3, in: "b"), chunk(ofPFN: 50, in: "a"),
    ]
    for id in others { try flip(chunk: id) }
    let page = try bench.sql.integer(
      "SELECT min(pageno) FROM dbstat WHERE name = 'chunk_data' AND pagetype = 'leaf'"
    )
    try patchFile(bench.storePath, at: (page - 1) * 4096, [UInt8](repeating: 0xff, count: 64))
    let outcome = try bench.tool.run("verify", "--json")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    let report = try outcome.jsonObject()
    let problems = report["problems"] as? [[String: Any]] ?? []
    let subjects = problems.compactMap { $0["subject"] as? String }
    for id in others { #expect(subjects.contains("chunk \(id)"), "\(subjects)") }
    #expect(subjects.contains("database"))
    #expect((report["damaged_snapshots"] as? [String])?.sorted() == ["a", "b"])
  }

  @Test func anIndexThatIsCorruptInSQLitesEyes() throws {
    try expectDamage(
      """
      PRAGMA writable_schema = ON;
      UPDATE sqlite_schema SET sql = 'CREATE INDEX snapshot_vm ON snapshot (name, id)'
        WHERE name = 'snapshot_vm'
      """,
      subject: "database",
      message: "",
      hurts: []
    )
  }

  @Test func verifyOfOneSnapshotSaysNothingAboutOthers() throws {
    let id = try chunk(ofPFN: 50, in: "a")
    try bench.sql.run("DELETE FROM chunk_data WHERE chunk_id = \(id)")
    expectSuccess(try bench.tool.run("verify", "b"))
    #expect(try bench.tool.run("verify", "a").ending == .exit(65))
  }

  /// Workers decode for a stream while it is written: what one of them finds must end the restore, with
  /// nothing wrong written before.
  @Test(.slow, arguments: ["1", "4"], [100, 9_000, 13_990])
  func aDamagedChunkEndsAStreamBeforeItsPages(threads: String, pfn: Int) throws {
    var generator = TestGenerator(seed: 2)
    let pages = (0..<64).map { _ in generator.compressiblePage() }
    var ram = (0..<14_000).flatMap { pages[$0 % pages.count] }
    // Every page is another.
    for page in 0..<14_000 {
      withUnsafeBytes(of: UInt64(page)) {
        ram.replaceSubrange((page * 4096)..<(page * 4096 + 8), with: $0)
      }
    }
    try bench.save("c", ram)
    try flip(chunk: try chunk(ofPFN: pfn, in: "c"))
    let outcome = try bench.tool.run("restore", "c", "-o", "-", "--threads", threads)
    #expect(outcome.ending == .exit(65))
    #expect(outcome.standardError.contains("is damaged at PFN"))
    #expect(outcome.standardOutput.count <= pfn * 4096)
    // Not in #expect: it would describe megabytes.
    let isSame = ram.starts(with: outcome.standardOutput)
    #expect(isSame)
    // Of a chunk that is not there, all windows before its own are whole.
    try bench.sql.run(
      "DELETE FROM chunk_data WHERE chunk_id = \(try chunk(ofPFN: pfn, in: "c"))"
    )
    let other = try bench.tool.run("restore", "c", "-o", "-", "--threads", threads)
    #expect(other.ending == .exit(65))
    #expect(other.standardOutput.count == pfn / 4096 * 4096 * 4096)
    let isSameWithoutChunk = ram.starts(with: other.standardOutput)
    #expect(isSameWithoutChunk)
  }

  @Test func aChunkThatIsMissingIsOneProblem() throws {
    let id = try chunk(ofPFN: 50, in: "a")
    try bench.sql.run("DELETE FROM chunk_data WHERE chunk_id = \(id)")
    let report = try bench.tool.run("verify", "--json").jsonObject()
    let problems = report["problems"] as? [[String: Any]] ?? []
    let messages = problems.filter { $0["subject"] as? String == "chunk \(id)" }
      .compactMap { $0["message"] as? String }
    #expect(messages.count == 1 && messages[0].contains("it is missing"), "\(messages)")
  }
}
