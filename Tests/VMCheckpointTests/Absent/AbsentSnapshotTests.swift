import Foundation
import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

/// Pages that a dump left out are not zero, wherever somebody asks.
@Suite struct AbsentSnapshotTests {
  private let bench: Workbench
  private let shell: ExtensionShell
  private static let absent: [Range<UInt64>] = [3..<5, 40..<60, 63..<64]
  private static var absentPFNs: Set<UInt64> { Set(absent.joined()) }

  init() throws {
    bench = try Workbench()
    shell = ExtensionShell(bench.storePath)
  }

  /// 64 pages with zeros where they are absent.
  private static func ram(_ seed: UInt64) -> [UInt8] {
    var ram = sampleRAM(64, seed: seed)
    for pfn in absentPFNs {
      ram.replaceSubrange(
        (Int(pfn) * 4096)..<(Int(pfn) * 4096 + 4096),
        with: repeatElement(0, count: 4096)
      )
    }
    return ram
  }

  @discardableResult
  private func saveDump(
    _ name: String,
    _ ram: [UInt8],
    absent: [Range<UInt64>] = Self.absent,
    overlays: OverlayDocument = OverlayDocument(guestOSID: nil, records: [])
  ) throws -> SaveResult {
    let path = try bench.write("\(name).ram", ram)
    return try Store.save(
      SaveRequest(
        input: RAMInput(PartialDump(path: path, absent: absent)),
        name: name,
        vm: "vm",
        overlays: overlays
      ),
      toStoreAt: bench.storePath
    )
  }

  private func json(_ arguments: String...) throws -> [String: Any] {
    let outcome = try bench.tool.start(arguments + ["--json"]).wait()
    guard outcome.succeeded else { throw TestSetupError("\(outcome)") }
    return try outcome.jsonObject()
  }

  private func rows(_ arguments: String...) throws -> [[String: Any]] {
    let outcome = try bench.tool.start(["query"] + arguments + ["--json"]).wait()
    guard outcome.succeeded else { throw TestSetupError("\(outcome)") }
    return try outcome.jsonObject()["rows"] as? [[String: Any]] ?? []
  }

  @Test func noQueryCallsAnAbsentPageZero() throws {
    let ram = Self.ram(1)
    let whole = incompressibleRAM(64)
    try saveDump("a", ram)
    try saveDump("b", whole, absent: [])
    try saveDump("c", ram)
    let zeroPage = [UInt8](repeating: 0, count: 4096)
    let zeroCount = (0..<64).count { pfn in
      ram[(pfn * 4096)...].prefix(4096).elementsEqual(zeroPage)
    }
    let region = try rows("region-pages", "a")[0]
    #expect(region["absent_pages"] as? Int == 23)
    #expect(region["zero_pages"] as? Int == zeroCount - 23)

    for (a, b) in [("a", "b"), ("b", "c")] {
      let changes = try rows("changes", a, b)[0]
      #expect(changes["absent_pages"] as? Int == 23)
      let others = (changes["added_pages"] as? Int ?? 0) + (changes["zeroed_pages"] as? Int ?? 0)
      #expect(others == zeroCount - 23)
      let changed = try rows("changed-pages", a, b)
      for row in changed {
        let range = (row["first_pfn"] as? Int ?? 0)...(row["last_pfn"] as? Int ?? 0)
        let isAbsent = row["change"] as? String == "absent"
        #expect(range.allSatisfy { Self.absentPFNs.contains(UInt64($0)) == isAbsent }, "\(row)")
      }
      let absent = changed.filter { $0["change"] as? String == "absent" }
      #expect(absent.compactMap { $0["pages"] as? Int }.reduce(0, +) == 23)
    }

    let history = try rows("page-history", "vm", "3")
    #expect(history.map { $0["content"] as? String == "absent" } == [true, false, true])
    #expect(history.map { $0["change"] as? String } == ["first", "changed", "changed"])

    // The same in the plain shell.
    let sql = try bench.tool.succeed("query", "region-pages", "a", "--sql").text
    #expect(sql.contains("FROM absent_range"))
    let shell = try run(
      ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-readonly", "-list", bench.storePath],
      input: .file(bench.write("query.sql", sql))
    )
    #expect(shell.text.contains("|23\n"), "\(shell)")
  }

  /// A store that never had an absent page does not have the table.
  @Test func queriesRunInAStoreWithoutTheTable() throws {
    try saveDump("a", incompressibleRAM(64), absent: [])
    try saveDump("b", incompressibleRAM(64, seed: 2), absent: [])
    #expect(try rows("region-pages", "a")[0]["absent_pages"] as? Int == 0)
    #expect(try rows("changes", "a", "b")[0]["changed_pages"] as? Int == 64)
    #expect(try rows("changed-pages", "a", "b")[0]["change"] as? String == "changed")
    #expect(try rows("page-history", "vm", "3").count == 2)
    for name in ["region-pages", "changes", "changed-pages"] {
      let sql = try bench.tool.succeed("query", name, "--sql").text
      let shell = try run(
        ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-readonly", bench.storePath],
        input: .file(bench.write("query.sql", sql))
      )
      #expect(shell.succeeded, "\(shell)")
    }
  }

  @Test func aRestoreWritesZerosAndSaysSo() throws {
    let ram = Self.ram(1)
    #expect(try saveDump("a", ram).absentPageCount == 23)
    let path = bench.directory.file("out")
    for arguments in [[], ["--verify"]] {
      let outcome = try bench.tool.start(
        ["restore", "a", "-o", path, "--force"] + arguments
      ).wait()
      #expect(outcome.ending == .exit(0))
      #expect(
        outcome.standardError.contains(
          "23 pages of snapshot \"a\" are absent, because the dump that it was saved from left them out"
        )
      )
      #expect(try [UInt8](Data(contentsOf: URL(filePath: path))) == ram)
    }
    let piped = try bench.tool.run("restore", "a", "-o", "-")
    #expect(piped.standardError.contains("are absent"))
    #expect(try json("restore", "a", "-o", path, "--force")["absent_pages"] as? Int == 23)
    #expect(try json("show", "a")["absent_pages"] as? Int == 23)
    #expect(try bench.tool.verify().ending == .exit(0))
  }

  @Test func anotherSetOfAbsentPagesIsAnotherSnapshot() throws {
    let ram = Self.ram(1)
    let digests = Set(
      [
        try saveDump("a", ram), try saveDump("b", ram, absent: [3..<5]),
        try saveDump("c", ram, absent: []), try saveDump("d", ram),
      ].map(\.digest)
    )
    #expect(digests.count == 3)
    #expect(try json("diff", "a", "d")["identical"] as? Bool == true)
    #expect(try json("diff", "a", "c")["identical"] as? Bool == false)
  }

  @Test func whatIsAbsentIsNotCompared() throws {
    let (a, b) = (Self.ram(1), sampleRAM(64, seed: 2))
    try saveDump("a", a)
    try saveDump("b", b, absent: [])
    for (left, right) in [("a", "b"), ("b", "a")] {
      let diff = try json("diff", left, right, "--limit", "all")
      let absent = try #require(diff["absent"] as? [String: Any])
      #expect(absent["page_count"] as? Int == 23)
      #expect(absent["range_count"] as? Int == 3)
      for name in ["added", "zeroed", "changed"] {
        let pages = try #require((diff[name] as? [String: Any])?["ranges"] as? [[String: Any]])
        for range in pages {
          let first = UInt64(try #require(range["first_pfn"] as? Int))
          let count = UInt64(try #require(range["page_count"] as? Int))
          #expect(Self.absentPFNs.isDisjoint(with: first..<(first + count)))
        }
      }
      let rows = try shell.run(
        "SELECT pfn, different_bytes IS NULL FROM ram_diff('\(left)', '\(right)') WHERE change = 'absent';"
      ).split(separator: "\n").map(String.init)
      #expect(rows == Self.absentPFNs.sorted().map { "\($0)|1" })
      let point = try shell.run(
        "SELECT change FROM ram_diff('\(left)', '\(right)') WHERE pfn BETWEEN 41 AND 42;"
      )
      #expect(point == "absent\nabsent")
      let map = try json("map", left, right)
      #expect((map["classes"] as? [String: Any])?["absent"] as? Int == 23)
    }
  }

  @Test func SQLHasNoBytesForThem() throws {
    let ram = Self.ram(1)
    try saveDump("a", ram)
    let states = try shell.run("SELECT pfn FROM ram_page('a') WHERE state = 'absent';")
      .split(separator: "\n").map { UInt64($0) }
    #expect(states == Self.absentPFNs.sorted())
    let nulls = try shell.run(
      """
      SELECT page_data('a', 3) IS NULL, page_view('a', 4) IS NULL, page_data('a', 2) IS NULL,
             ram_read('a', 2 * 4096, 4096) IS NULL, ram_read('a', 2 * 4096, 4097) IS NULL,
             ram_read('a', 4 * 4096 + 100, 1) IS NULL, ram_read('a', 5 * 4096, 35 * 4096) IS NULL,
             (SELECT state FROM page_history('vm', 40)), (SELECT state FROM page_history('vm', 64));
      """
    )
    #expect(nulls == "1|1|0|0|1|1|0|absent|no-ram")
    #expect(try shell.run("SELECT count(*) FROM absent_range;") == "3")
  }

  /// A match goes on over zero pages, but not over pages that nobody knows.
  @Test func aMatchDoesNotGoThroughAnAbsentPage() throws {
    var ram = [UInt8](repeating: 0, count: 8 * 4096)
    ram.replaceSubrange((2 * 4096 - 3)..<(2 * 4096), with: Array("xyz".utf8))
    ram.replaceSubrange((5 * 4096 - 3)..<(5 * 4096), with: Array("xyz".utf8))
    try saveDump("a", ram, absent: [2..<3])
    let found = try shell.run("SELECT gpa FROM ram_search('a', x'78797A0000');")
    #expect(found == "\(5 * 4096 - 3)")
  }

  @Test func aReaderShowsThemAsAbsent() throws {
    try saveDump("a", Self.ram(1))
    let reader = try SnapshotReader(storePath: bench.storePath, reference: SnapshotReference("a"))
    var found = Set<UInt64>()
    var pfn: UInt64 = 0
    while pfn < 64 {
      let (content, pageCount) = reader.content(at: PFN(rawValue: pfn)!)
      if content == .absent { found.formUnion(pfn..<(pfn + pageCount)) }
      pfn += pageCount
    }
    #expect(found == Self.absentPFNs)
    #expect(reader.absent.pageCount == 23)
  }

  /// An underlay that a record gives is known, whatever the dump has.
  @Test func aGivenUnderlayIsNotAbsent() throws {
    var page = [UInt8](repeating: 0, count: 4096)
    page[7] = 9
    func record(_ pfn: UInt64, _ underlay: CapturedUnderlay) -> OverlayRecord {
      OverlayRecord(
        overlay: Overlay(pfn: PFN(rawValue: pfn)!, parameters: .hypercall(.vmcall)),
        underlay: underlay
      )
    }
    let overlays = OverlayDocument(
      guestOSID: 1,
      records: [
        record(3, .page(PageContents(page)!)), record(45, .zero), record(50, .unknown),
      ]
    )
    let ram = Self.ram(1)
    let result = try saveDump("a", ram, overlays: overlays)
    #expect(result.absentPageCount == 21)
    let outcome = try bench.tool.run(
      "restore",
      "a",
      "-o",
      bench.directory.file("o"),
      "--overlays",
      "omit"
    )
    #expect(outcome.ending == .exit(0))
    var expected = ram
    expected.replaceSubrange((3 * 4096)..<(4 * 4096), with: page)
    #expect(try [UInt8](Data(contentsOf: URL(filePath: bench.directory.file("o")))) == expected)
    #expect(try bench.tool.verify().ending == .exit(0))
  }

  @Test func aSourceThatContradictsItselfIsRefused() throws {
    let ram = sampleRAM(64, seed: 3)
    let error = #expect(throws: VMCheckpointError.self) {
      try saveDump("a", ram, absent: [0..<64])
    }
    #expect(error?.code == .corrupt)
    #expect(throws: VMCheckpointError.self) { try saveDump("b", ram, absent: [60..<65]) }
    #expect(try bench.tool.snapshotNames() == [])
  }

  /// Without its rows an absent page would be zero.
  @Test(arguments: [
    "DELETE FROM absent_range WHERE first_pfn = 40",
    "UPDATE absent_range SET page_count = 19 WHERE first_pfn = 40",
    "UPDATE absent_range SET first_pfn = 41 WHERE first_pfn = 40",
    "UPDATE absent_range SET page_count = 20000 WHERE first_pfn = 40",
    "INSERT INTO absent_range VALUES (1, 5, 1)",
    "UPDATE absent_range SET page_count = 12 WHERE first_pfn = 3",
    "DELETE FROM absent_range; INSERT INTO absent_range VALUES (1, 0, 64)",
    "DELETE FROM feature", "DROP TABLE absent_range",
    "DROP TABLE absent_range; CREATE VIEW absent_range AS SELECT 1 AS snapshot_id, 3 AS first_pfn, 2 AS page_count",
  ])
  func aLostOrEditedRangeIsNoticed(edit: String) throws {
    try saveDump("a", Self.ram(1))
    try bench.sql.run(edit)
    for arguments in [
      ["restore", "a", "-o", "-"], ["verify"], ["show", "a"], ["diff", "a", "a"], ["map", "a"],
    ] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.ending == .exit(65), "\(arguments): \(outcome)")
    }
    #expect(throws: VMCheckpointError.self) {
      try SnapshotReader(storePath: bench.storePath, reference: SnapshotReference("a"))
    }
  }

  /// A dump may claim any number of absent pages: what it costs depends on its runs.
  @Test func veryManyAbsentPagesCostNoTime() throws {
    var elf = ELFBuilder()
    elf.load(0, sampleRAM(64), memoryByteCount: 1 << 46)
    let path = try bench.write("large.elf", elf.bytes)
    for name in ["a", "b"] {
      let saved = try bench.tool.run("save", path, "--name", name)
      #expect(saved.succeeded, "\(saved)")
    }
    for arguments in [["diff", "a", "b"], ["map", "a"], ["map", "a", "b"], ["verify"]] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.succeeded, "\(outcome)")
      #expect(outcome.processorSeconds < 20, "\(outcome)")
    }
    #expect(try json("show", "a")["absent_pages"] as? Int == 1 << 34 - 64)
  }

  @Test func aLostFeatureRowIsNamedWhenASaveNeedsIt() throws {
    try saveDump("a", Self.ram(1))
    try bench.sql.run("DELETE FROM feature")
    let error = #expect(throws: VMCheckpointError.self) { try saveDump("b", Self.ram(2)) }
    #expect(error?.code == .corrupt)
  }

  @Test func deletedSnapshotsLeaveNoRanges() throws {
    try saveDump("a", Self.ram(1))
    try saveDump("b", Self.ram(2))
    #expect(try bench.tool.run("delete", "a").ending == .exit(0))
    #expect(try bench.sql.run("SELECT DISTINCT snapshot_id FROM absent_range") == "2")
    #expect(try bench.tool.verify().ending == .exit(0))
    try bench.sql.run("DELETE FROM snapshot WHERE id = 2")
    #expect(try bench.tool.verify().text.contains("absent_range"))
  }

  @Test func aStoreWithoutThemHasNoFeature() throws {
    try bench.save("a", sampleRAM(64))
    #expect(try bench.sql.run("SELECT count(*) FROM feature") == "0")
    #expect(try json("show", "a")["absent_pages"] as? Int == 0)
  }
}
