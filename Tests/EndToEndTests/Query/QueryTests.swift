import Foundation
import Testing
import VMCheckpointTestSupport

/// Every query of `vmckpt query` on a store whose contents are known.
@Suite struct QueryTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save(
      "web/1",
      vm: "web",
      LabelledRAM(low: [1, 1, 2, 0, 0, 3, 0, 0], high: [4, 5, 0, 0, 0, 0, 0, 6]),
      overlays: OverlayJSON.document(
        #"{"kind":"hypercall","pfn":1,"variant":"vmcall"}"#,
        #"{"kind":"reference-tsc","pfn":1,"tsc_frequency_hz":1000000000}"#,
        #"{"kind":"reference-tsc","pfn":1280,"tsc_frequency_hz":1000000000}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    try bench.save(
      "web/2",
      vm: "web",
      LabelledRAM(low: [1, 1, 2, 7, 0, 8, 0, 0], high: [0, 5, 0, 0, 0, 0, 0, 6])
    )
    try bench.save(
      "db/1",
      vm: "db",
      LabelledRAM(low: [2, 9, 9, 9, 0, 0, 0, 6], high: [0, 0, 0, 0])
    )
  }

  private func digest(_ label: Int) throws -> String {
    let path = try bench.write("page", LabelledRAM.page(label))
    return String(try run(["/usr/bin/env", "sha256sum", path]).text.prefix(64))
  }

  private func column(_ index: Int, of rows: [[String]]) -> [String] { rows.map { $0[index] } }

  @Test func largestSnapshots() throws {
    let rows = try bench.answer("largest-snapshots")
    #expect(column(0, of: rows) == ["web/1", "web/2", "db/1"])
    #expect(column(3, of: rows) == ["65536", "65536", "49152"])
    #expect(column(4, of: rows) == ["28672", "28672", "20480"])
    #expect(column(5, of: rows) == ["24576", "8192", "4096"])
    #expect(try bench.answer("largest-snapshots", "2").count == 2)
  }

  @Test func vms() throws {
    let rows = try bench.answer("vms")
    #expect(
      Set(rows.map { [$0[0], $0[1], $0[4]] }) == [["web", "2", "32768"], ["db", "1", "4096"]]
    )
  }

  @Test func growth() throws {
    // The saves may lie on both sides of midnight.
    for (vm, snapshots, bytes) in [("*", 3, 36864), ("web", 2, 32768), ("db", 1, 4096)] {
      let rows = try bench.answer("growth", vm)
      #expect(column(1, of: rows).compactMap { Int($0) }.reduce(0, +) == snapshots)
      #expect(column(2, of: rows).compactMap { Int($0) }.reduce(0, +) == bytes)
      #expect(rows.last?[4] == "\(column(3, of: rows).compactMap { Int($0) }.reduce(0, +))")
    }
    #expect(try bench.answer("growth") == bench.answer("growth", "*"))
  }

  @Test func lineage() throws {
    let rows = try bench.answer("lineage", "web/2")
    #expect(rows.map { Array($0[0...2]) } == [["0", "web/2", "web"], ["1", "web/1", "web"]])
    #expect(column(1, of: try bench.answer("lineage")) == ["db/1"])
  }

  @Test func regionPages() throws {
    #expect(
      try bench.answer("region-pages", "web/1") == [
        ["low", "0", "8", "4", "3", "1", "0"],
        ["high", "\(0x10000 * 4096)", "8", "5", "3", "0", "0"],
      ]
    )
    // A region without a page that is not zero.
    #expect(
      try bench.answer("region-pages")[1] == ["high", "\(0x10000 * 4096)", "4", "4", "0", "0", "0"]
    )
  }

  @Test func duplicatePages() throws {
    #expect(try bench.answer("duplicate-pages", "web/1") == [["2", "0", digest(1)]])
    #expect(try bench.answer("duplicate-pages", "latest") == [["3", "1", digest(9)]])
  }

  @Test func changes() throws {
    #expect(
      try bench.answer("changes", "web/1", "web/2") == [
        ["low", "0", "8", "1", "0", "1", "3", "0"],
        ["high", "\(0x10000 * 4096)", "8", "0", "1", "0", "2", "0"],
      ]
    )
    #expect(
      try bench.answer("changes", "other=web/2", "web/2~1")
        == bench.answer("changes", "web/1", "web/2")
    )
  }

  @Test func changedPages() throws {
    let rows = [
      ["3", "3", "1", "added"], ["5", "5", "1", "changed"],
      ["\(0x10000)", "\(0x10000)", "1", "zeroed"],
    ]
    #expect(try bench.answer("changed-pages", "web/1", "web/2") == rows)
    #expect(try bench.answer("changed-pages", "web/1", "web/2", "1") == [rows[0]])
    #expect(try bench.answer("changed-pages", "web/1", "web/1") == [])
    // A value without a name goes to the first parameter that has none.
    #expect(try bench.answer("changed-pages", "snapshot=web/1", "web/2", "1") == [rows[0]])
  }

  @Test func sharedPages() throws {
    #expect(
      try bench.answer("shared-pages", "web/1", "db/1") == [
        ["low", "0", "8", "4", "1", "0"],
        ["high", "\(0x10000 * 4096)", "8", "3", "1", "0"],
      ]
    )
    #expect(
      try bench.answer("shared-pages", "web/1", "web/2")[0] == ["low", "0", "8", "4", "3", "3"]
    )
  }

  @Test func sharedByVMs() throws {
    let rows = try bench.answer("shared-by-vms", "web", "db")
    #expect(rows.map { Array($0[0...5]) } == [["web", "8", "db", "3", "2", "8192"]])
    #expect(Int(rows[0][6]) ?? 0 > 0)
  }

  @Test func overlays() throws {
    let tsc = #"{"tsc_frequency_hz":1000000000}"#
    #expect(
      try bench.answer("overlays", "web/1") == [
        ["1", "0", "active", "hypercall", "0", "-", #"{"variant":"vmcall"}"#, "derived", "0"],
        ["1", "1", "pending", "reference-tsc", "1", "-", tsc, "derived", "0"],
        ["1280", "0", "outside", "reference-tsc", "1", "-", tsc, "derived", "0"],
      ]
    )
    #expect(try bench.answer("overlays", "web/2") == [])
  }

  @Test func pageHistory() throws {
    func history(_ pfn: String) throws -> [[String]] {
      try bench.answer("page-history", "web", pfn).map { [$0[0], $0[2], $0[3]] }
    }
    #expect(
      try history("3") == [["web/1", "first", "zero"], ["web/2", "changed", digest(7)]]
    )
    #expect(
      try history("0x10001") == [["web/1", "first", digest(5)], ["web/2", "same", digest(5)]]
    )
    #expect(try history("8") == [["web/1", "first", "no RAM"], ["web/2", "same", "no RAM"]])
  }

  @Test func pageCopies() throws {
    #expect(
      try bench.answer("page-copies", "0x10007", "web/1") == [
        ["web/1", "web", "\(0x10007)"], ["web/2", "web", "\(0x10007)"], ["db/1", "db", "7"],
      ]
    )
    #expect(try bench.answer("page-copies", "1", "web/1", "1") == [["web/1", "web", "0"]])
    #expect(try bench.answer("page-copies", "snapshot=web/1", "pfn=4") == [])
  }

  /// What `--sql` prints gives the same rows in the plain shell, without an extension.
  @Test(
    .slow,
    arguments: [
      ["largest-snapshots"], ["vms"], ["growth"], ["growth", "web"], ["lineage", "web/2"],
      ["region-pages"], ["duplicate-pages"], ["changes", "web/1", "web/2"],
      ["changed-pages", "web/1", "web/2"], ["shared-pages", "web/1", "db/1"],
      ["shared-by-vms", "web", "db"], ["overlays", "web/1"], ["page-history", "web", "0x3"],
      ["page-copies", "0", "web/1"],
    ]
  )
  func theSQLRunsInThePlainShell(arguments: [String]) throws {
    let sql = try bench.tool.start(["query"] + arguments + ["--sql"]).wait()
    expectSuccess(sql)
    let script = try bench.write("query.sql", sql.text)
    let shell = try run(
      ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-readonly", "-json", bench.storePath],
      input: .file(script)
    )
    expectSuccess(shell)
    let expected = try bench.tool.start(["query"] + arguments + ["--json"]).wait().jsonObject()
    let rows = try JSONSerialization.jsonObject(with: Data(shell.standardOutput)) as? NSArray
    #expect(rows == expected["rows"] as? NSArray)
    #expect(rows?.count ?? 0 > 0)
  }

  @Test func theTextIsATable() throws {
    let changes = try bench.tool.succeed("query", "changes", "web/1", "web/2")
    #expect(
      changes.text == """
        region         gpa  pages  added_pages  zeroed_pages  changed_pages  unchanged_pages  absent_pages
        low            0x0      8            1             0              1                3             0
        high    0x10000000      8            0             1              0                2             0

        """
    )
    let shared = try bench.tool.succeed("query", "shared-by-vms", "web", "db")
    #expect(shared.text.contains("8.0 KiB"))
  }

  @Test func theListNeedsNoStore() throws {
    let tool = try VMCkptTool(storePath: bench.directory.file("nothing.db"))
    let list = try tool.succeed("query")
    #expect(
      list.text.contains(
        """
        changes [snapshot=latest~1] [other=latest]
            What changed from one snapshot to another, in each memory region.

        """
      )
    )
    let queries = try tool.json("query")["queries"] as? [[String: Any]] ?? []
    #expect(queries.count == 24)
    for query in queries {
      #expect(Set(query.keys) == ["name", "title", "details", "parameters", "sql"])
      for parameter in query["parameters"] as? [[String: Any]] ?? [] {
        #expect(Set(parameter.keys) == ["name", "kind", "default", "description"])
      }
    }
    #expect(!exists(tool.storePath))
  }

  @Test func theJSONHasItsKeys() throws {
    let answer = try bench.tool.json("query", "growth")
    #expect(Set(answer.keys) == ["query", "parameters", "columns", "rows", "truncated", "notes"])
    #expect(answer["parameters"] as? [String: NSNull] == ["vm": NSNull()])
    let sql = try bench.tool.json("query", "page-copies", "snapshot=web/1", "0x2", "--sql")
    #expect(Set(sql.keys) == ["query", "parameters", "sql", "shell"])
    #expect(
      sql["parameters"] as? NSDictionary == ["snapshot": "web/1", "pfn": 2, "limit": 50]
    )
  }

  @Test func errorsNameTheParameter() throws {
    func expect(_ arguments: [String], _ code: Int32, _ message: String) throws {
      expectFailure(try bench.tool.start(["query"] + arguments).wait(), code, message)
    }
    try expect(
      ["chang"],
      64,
      #"there is no query "chang"; did you mean "changed-owners" or "changed-pages" or "changes"?"#
    )
    try expect(
      ["changes", "x=1"],
      64,
      #"query changes has no parameter "x"; usage: vmckpt query changes [SNAPSHOT] [OTHER]"#
    )
    try expect(
      ["vms", "web"],
      64,
      "query vms has only 0 parameters; usage: vmckpt query vms"
    )
    try expect(
      ["page-history", "web"],
      64,
      "query page-history needs a value for pfn; usage: vmckpt query page-history VM PFN"
    )
    try expect(
      ["lineage", "snapshot=web/1", "snapshot=web/2"],
      64,
      #"parameter "snapshot" is given twice; usage: vmckpt query lineage [SNAPSHOT]"#
    )
    for pfn in ["0xg", "+1", "0x", "0x10000000000000", "99999999999999999999", "1 "] {
      try expect(
        ["page-history", "web", pfn],
        64,
        "pfn=\"\(pfn)\" makes no sense; expected a page frame number, GPA / 4096, in decimal or "
          + "as 0x…"
      )
    }
    for limit in ["0", "100001", "x"] {
      try expect(
        ["duplicate-pages", "limit=\(limit)"],
        64,
        "limit=\"\(limit)\" makes no sense; expected 1 to 100000"
      )
    }
    try expect(
      ["growth", "wbe"],
      66,
      #"there is no snapshot of a VM "wbe"; see all with: vmckpt query vms"#
    )
    try expect(
      ["page-history", "*", "1"],
      66,
      #"there is no snapshot of a VM "*"; see all with: vmckpt query vms"#
    )
    try expect(
      ["changes", "web/1", "web/3"],
      66,
      #"there is no snapshot "web/3"; did you mean "web/1" or "web/2"?"#
    )
    try expect(["--sql"], 64, "--sql needs the name of a query; see all with: vmckpt query")
  }
}
