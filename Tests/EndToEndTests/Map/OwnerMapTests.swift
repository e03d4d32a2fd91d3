import Foundation
import Testing
import VMCheckpointTestSupport

/// `vmckpt map --by owner`, beside what SQL says of the same pages.
@Suite struct OwnerMapTests {
  private func map(_ bench: Workbench, _ arguments: String...) throws -> [String: Any] {
    let arguments = ["map", "one", "--by", "owner", "--json"] + arguments
    let outcome = try bench.tool.start(arguments).wait()
    try #require(outcome.succeeded, "\(outcome)")
    return try outcome.jsonObject()
  }

  /// The classes' pages as the map has them and as SQL has them.
  private func expectSameClasses(_ bench: Workbench) throws {
    let document = try map(bench)
    let classes = try #require(document["classes"] as? [String: Int])
    let rows = try ExtensionShell(bench.storePath).run(
      "SELECT lower(replace(replace(class, ' ', '_'), '-', '_')), count(*) "
        + "FROM guest_page('one') GROUP BY 1;"
    )
    var expected = classes.mapValues { _ in 0 }
    for row in rows.split(separator: "\n") {
      let parts = row.split(separator: "|")
      expected[String(parts[0])] = Int(parts[1])
    }
    #expect(classes == expected)
    let cells = try #require(document["cells"] as? [[String: Any]])
    var sums = classes.mapValues { _ in 0 }
    for cell in cells {
      sums.merge(cell["pages"] as? [String: Int] ?? [:]) { $0 + $1 }
      let owned = (cell["owners"] as? [[String: Any]] ?? [])
        .reduce(0) { $0 + ($1["page_count"] as? Int ?? 0) }
      #expect(owned <= cell["ram_pages"] as? Int ?? 0)
    }
    #expect(sums == classes)
  }

  @Test func everyPageIsOfTheClassThatSQLSays() throws {
    let bench = try Workbench()
    try bench.save("one", SyntheticGuest().ram)
    try expectSameClasses(bench)
  }

  @Test(.guest, .slow) func everyPageOfARealGuestIsOfTheClassThatSQLSays() throws {
    let bench = try Workbench()
    try bench.tool.succeed("save", GuestImages().moments[0], "--name", "one")
    try expectSameClasses(bench)
  }

  @Test func cellsNameWhoHasMostOfThem() throws {
    let bench = try Workbench()
    try bench.save("one", SyntheticGuest().ram)
    let document = try map(bench, "--cells", "256")
    #expect(document["by"] as? String == "owner" && document["note"] is NSNull)
    let cells = try #require(document["cells"] as? [[String: Any]])
    func owners(_ pfn: Int) throws -> [[String: Any]] {
      let cell = try #require(cells.last { ($0["first_pfn"] as? Int ?? .max) <= pfn })
      return try #require(cell["owners"] as? [[String: Any]])
    }
    let slab = try owners(0x900)
    #expect(slab.count == 1 && slab[0]["class"] as? String == "slab")
    #expect(slab[0]["name"] as? String == "task_struct" && slab[0]["page_count"] as? Int == 16)
    let mixed = try owners(0xc00)
    #expect(mixed.contains { $0["name"] as? String == "init" && $0["pid"] as? Int == 1 })
    #expect(
      mixed.contains { $0["file"] as? String == "/sbin/init" && $0["pid"] is NSNull }
    )
    #expect(try owners(0xf00).isEmpty, "free pages have no owner")
    // Of another map, the keys are there and empty.
    let other = try bench.tool.json("map", "one")
    #expect(other["by"] as? String == "content")
    #expect((other["cells"] as? [[String: Any]])?.allSatisfy { $0["owners"] is NSNull } == true)
  }

  @Test func picturesHaveTheOwnersInTheirTooltips() throws {
    let bench = try Workbench()
    try bench.save("one", SyntheticGuest().ram)
    for name in ["map.svg", "map.html"] {
      let path = bench.directory.file(name)
      expectSuccess(try bench.tool.run("map", "one", "--by", "owner", "-o", path))
      let text = String(decoding: try readFile(path), as: UTF8.self)
      #expect(text.contains("RAM of one by owner"))
      for owner in ["slab task_struct: ", "anonymous init (1): 1", "file ext4 /sbin/init: 1"] {
        #expect(text.contains("  \(owner)"), "\(owner)")
      }
      #expect(text.contains("fill=\"#d55e00\""), "slab's colour")
    }
    let text = try bench.tool.succeed("map", "one", "--by", "owner", "--cells", "64").text
    #expect(text.hasPrefix("RAM of one by owner, a cell is 256.0 KiB\n"))
    #expect(text.contains("s  slab") && text.contains("ssssssss"), "\(text)")
  }

  @Test func whatCannotBeShownByOwnerIsSaid() throws {
    let bench = try Workbench()
    try bench.save("one", SyntheticGuest().ram)
    try bench.save("random", sampleRAM(64))
    let two = try bench.tool.run("map", "one", "random", "--by", "owner")
    #expect(two.ending == .exit(64) && two.standardError.contains("vmckpt diff A B --who"))
    let none = try bench.tool.run("map", "random", "--by", "owner")
    #expect(none.ending == .exit(66), "\(none)")
    #expect(none.standardError.contains("no 64-bit Linux kernel was found"), "\(none)")
    #expect(try bench.tool.run("map", "one", "--by", "who").ending == .exit(64))
  }
}
