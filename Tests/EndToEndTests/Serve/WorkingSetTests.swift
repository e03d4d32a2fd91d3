import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// What a VM touches first is recorded by one server, and comes first from the next.
@Suite(.serialized, .enabled(if: geteuid() == 0, "userfaultfd needs root here"))
struct WorkingSetTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func pagesOfSet(_ snapshot: String) throws -> [Int] {
    try bench.sql.run(
      """
      SELECT r.first_pfn, r.page_count FROM working_set_run r JOIN snapshot s ON s.id = r.snapshot_id
       WHERE s.name = '\(snapshot)' ORDER BY r.position
      """
    )
    .split(separator: "\n").flatMap { row in
      let numbers = row.split(separator: "|").compactMap { Int($0) }
      return numbers[0]..<(numbers[0] + numbers[1])
    }
  }

  /// Touches pages of `guest` while they are recorded, and waits until that is stored.
  ///
  /// - Parameter seconds: How long is recorded; `nil`: until the server is asked to end.
  private func record(_ ram: [UInt8], touching touched: [Int], seconds: Int? = nil) throws {
    let server = try ServeTool(bench, "guest", "--record-working-set", "\(seconds ?? 600)")
    let vm = try ServedVM(pageCount: ram.count / 4096, socketPath: server.socketPath)
    #expect(vm.mismatches(ram, touched) == [])
    if seconds == nil {
      // What was watched for less than a second is not kept.
      usleep(1_100_000)
    } else {
      try waitUntil("the working set is stored") {
        try bench.sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'working_set_run'")
          == 1 && bench.sql.integer("SELECT count(*) FROM working_set") == 1
      }
    }
    let outcome = try server.end()
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try bench.sql.integer("SELECT count(*) FROM working_set") == 1)
    #expect(vm.mismatches(ram, 0..<(ram.count / 4096)) == [], "the rest came after it")
  }

  @Test("a start does not wait for the pages that the last one touched first")
  func recordedAndPlayed() throws {
    let ram = sampleRAM(2048, seed: 21)
    try bench.save("guest", ram)
    let touched = [1500, 7, 700, 701, 2047, 64]
    try record(ram, touching: touched, seconds: 6)

    let pages = try pagesOfSet("guest")
    let places = touched.map { page in pages.firstIndex(of: page) ?? -1 }
    #expect(places == places.sorted() && !places.contains(-1), "in the order of the touches")
    #expect(pages.count < 200, "and hardly more than these")

    let shown = try #require(try bench.tool.json("show", "guest")["working_set"] as? [String: Any])
    #expect(shown["snapshot"] as? String == "guest")
    #expect(shown["pages"] as? Int == pages.count)
    #expect(shown["door"] as? String == "userfaultfd")
    #expect(shown["duration_seconds"] as? Double == 6)
    #expect(
      try bench.tool.run("show", "guest").text.contains("  Working set    \(pages.count) pages in ")
    )

    let server = try ServeTool(bench, "guest", "--json", "--once", recordingSeconds: nil)
    let vm = try ServedVM(pageCount: 2048, socketPath: server.socketPath)
    let outcome = try server.process.wait()
    try #require(outcome.succeeded, "\(outcome)")
    #expect(vm.mismatches(ram, 0..<2048) == [])
    let result = try outcome.jsonObject()
    #expect(result["working_set_of"] as? String == "guest")
    #expect(result["working_set_recorded"] as? Bool == false)
    #expect(result["working_set_pages"] as? Int == Set(pages).count)
    #expect(try pagesOfSet("guest") == pages, "what is there is not recorded anew")
    #expect(try bench.tool.verify().succeeded)
    try bench.tool.succeed("delete", "guest")
    #expect(try bench.sql.integer("SELECT count(*) FROM working_set_run") == 0)
  }

  @Test(
    "a snapshot without a working set has that of its nearest ancestor, as far as it has the RAM"
  )
  func inherited() throws {
    let ram = sampleRAM(1024, seed: 23)
    try bench.save("guest", ram)
    try record(ram, touching: [3, 900, 400])
    let pages = try pagesOfSet("guest")
    let smaller = sampleRAM(512, seed: 24)
    try bench.save("child", sampleRAM(1024, seed: 25), "--parent", "guest")
    try bench.save("grandchild", smaller, "--parent", "child")
    let shown = try bench.tool.json("show", "grandchild")["working_set"] as? [String: Any]
    #expect(shown?["snapshot"] as? String == "guest")
    #expect(
      try bench.tool.run("show", "grandchild").text.contains("(userfaultfd), from guest\n")
    )

    let server = try ServeTool(bench, "grandchild", "--json", "--once", recordingSeconds: nil)
    let vm = try ServedVM(pageCount: 512, socketPath: server.socketPath)
    let result = try server.process.wait().jsonObject()
    #expect(vm.mismatches(smaller, 0..<512) == [])
    #expect(result["working_set_of"] as? String == "guest")
    #expect(result["working_set_pages"] as? Int == Set(pages.filter { $0 < 512 }).count)
    #expect(result["warnings"] as? [String] == [])
    // A deleted ancestor is missing in the line, and with it what it had.
    try bench.tool.succeed("delete", "guest")
    #expect(try bench.tool.json("show", "grandchild")["working_set"] is NSNull)
  }

  @Test("a working set that makes no sense makes no page wrong")
  func hostileRows() throws {
    let ram = sampleRAM(256, seed: 27)
    try bench.save("guest", ram)
    try record(ram, touching: [5])
    try bench.sql.run(
      """
      DELETE FROM working_set_run;
      INSERT INTO working_set_run SELECT id, 0, 0, 200000000 FROM snapshot;
      INSERT INTO working_set_run SELECT id, 1, 4503599627370495, 1 FROM snapshot;
      INSERT INTO working_set_run SELECT id, 2, 250, 4096 FROM snapshot;
      INSERT INTO working_set_run SELECT id, 3, 0, 1 FROM snapshot;
      """
    )
    func serve() throws -> [String: Any] {
      let server = try ServeTool(bench, "guest", "--json", recordingSeconds: nil)
      let vm = try ServedVM(pageCount: 256, socketPath: server.socketPath)
      #expect(try vm.mismatches(ram, threadCount: 2, seed: 1) == [])
      return try server.end().jsonObject()
    }
    #expect(try serve()["warnings"] as? [String] == [])
    for damage in [
      "first_pfn = 4503599627370495, page_count = 2",
      "first_pfn = 0, page_count = 4503599627370496",
    ] {
      try bench.sql.run("UPDATE working_set_run SET \(damage) WHERE position = 1")
      let warnings = try #require(try serve()["warnings"] as? [String])
      #expect(warnings.contains { $0.hasPrefix("cannot read the working set: ") }, "\(warnings)")
    }
    #expect(try bench.tool.run("show", "guest").succeeded)
  }

  @Test("a VM that ends at once, or touches nothing, leaves no working set")
  func nothingToRecord() throws {
    let ram = sampleRAM(64, seed: 29)
    try bench.save("guest", ram)
    let server = try ServeTool(bench, "guest", "--json", recordingSeconds: 0.2)
    do {
      // It gets its pages although it touches none of them.
      let vm = try ServedVM(pageCount: 64, socketPath: server.socketPath)
      try waitUntil("all of its pages are there") {
        vm.residentPageCount >= 64 - zeroPageCount(ram)
      }
    }
    let result = try server.end().jsonObject()
    #expect(result["working_set_recorded"] as? Bool == false)
    #expect(
      try bench.sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'working_set'") == 0
    )
  }

  private func zeroPageCount(_ ram: [UInt8]) -> Int {
    stride(from: 0, to: ram.count, by: 4096).count { page in
      ram[page..<(page + 4096)].allSatisfy { $0 == 0 }
    }
  }

  @Test(
    "seconds that make no sense",
    arguments: ["-1", "x", "", "3601", "1e3", "nan", "1.2.3"]
  )
  func usage(seconds: String) throws {
    let outcome = try bench.tool.run(
      "serve",
      "guest",
      "--uffd",
      "x.sock",
      "--record-working-set",
      seconds
    )
    #expect(outcome.ending == .exit(64))
  }
}
