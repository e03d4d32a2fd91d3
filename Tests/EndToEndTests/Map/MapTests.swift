import Foundation
import Testing
import VMCheckpointTestSupport

/// `vmckpt map` on stores whose contents are known.
@Suite struct MapTests {
  private static let web1 = LabelledRAM(
    low: [1, 1, 2, 0, 0, 3, 0, 0],
    high: [4, 5, 0, 0, 0, 0, 0, 6]
  )
  private static let web2 = LabelledRAM(
    low: [1, 1, 2, 7, 0, 8, 0, 0],
    high: [0, 5, 0, 0, 0, 0, 0, 6]
  )
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save(
      "web/1",
      vm: "web",
      Self.web1,
      overlays: OverlayJSON.document(
        #"{"kind":"hypercall","pfn":3,"variant":"vmcall"}"#,
        #"{"kind":"reference-tsc","pfn":3,"tsc_frequency_hz":1000000000}"#,
        #"{"kind":"reference-tsc","pfn":1280,"tsc_frequency_hz":1000000000}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    try bench.save("web/2", vm: "web", Self.web2)
    try bench.save("db/1", vm: "db", LabelledRAM(low: [2, 9, 9, 9, 0, 0, 0, 6], high: [0, 0]))
  }

  @Test func everyPageIsOfTheRightClass() throws {
    func classes(_ arguments: String...) throws -> [String: Int]? {
      try bench.tool.start(["map"] + arguments + ["--json"]).wait().jsonObject()["classes"]
        as? [String: Int]
    }
    #expect(
      try classes("web/1") == [
        "zero": 9, "unique": 2, "shared_with_parent": 0, "shared_within_vm": 3,
        "shared_with_other_vms": 2,
      ]
    )
    #expect(
      try classes("web/2") == [
        "zero": 9, "unique": 2, "shared_with_parent": 3, "shared_within_vm": 0,
        "shared_with_other_vms": 2,
      ]
    )
    #expect(
      try classes("web/1", "web/2") == [
        "zero": 8, "unchanged": 5, "added": 1, "zeroed": 1, "changed": 1,
      ]
    )
  }

  @Test func theTextIsAMap() throws {
    let one = try bench.tool.succeed("map", "web/1")
    #expect(
      one.text == """
        RAM of web/1, a cell is 4.0 KiB

               0x0  ▒▒▓◆·█··
                    (no RAM)
        0x10000000  █▒·····▓

                                     PAGES      SIZE
          ·  zero                        9  36.0 KiB
          █  unique                      2   8.0 KiB
          ░  shared with the parent      0       0 B
          ▒  shared within the VM        3  12.0 KiB
          ▓  shared with other VMs       2   8.0 KiB
          ◆  overlays                    1

        """
    )
    let changes = try bench.tool.succeed("map", "web/1", "web/2")
    #expect(
      changes.text == """
        What changed from web/1 to web/2, a cell is 4.0 KiB

               0x0  ░░░▓·█··
                    (no RAM)
        0x10000000  ▒░·····░

                        PAGES      SIZE
          ·  zero           8  32.0 KiB
          ░  unchanged      5  20.0 KiB
          ▓  added          1   4.0 KiB
          ▒  zeroed         1   4.0 KiB
          █  changed        1   4.0 KiB

        """
    )
  }

  @Test func theJSONHasItsKeys() throws {
    let map = try bench.tool.json("map", "web/1", "--cells", "4")
    #expect(
      Set(map.keys) == [
        "by", "snapshot", "base", "vm", "parent", "path", "cell_pages", "classes", "regions",
        "cells", "overlays", "note",
      ]
    )
    #expect(map["by"] as? String == "content" && map["note"] is NSNull)
    #expect(map["base"] is NSNull && map["parent"] is NSNull && map["path"] is NSNull)
    #expect(map["vm"] as? String == "web")
    #expect(map["cell_pages"] as? Int == 4)
    #expect(
      map["regions"] as? NSArray == [
        ["gpa": 0, "bytes": 32768, "name": "low"],
        ["gpa": 0x1000_0000, "bytes": 32768, "name": "high"],
      ]
    )
    #expect(
      map["overlays"] as? NSArray == [["pfn": 3, "kinds": ["hypercall", "reference-tsc"]]]
    )
    let cells = try #require(map["cells"] as? [[String: Any]])
    #expect(cells.map { $0["first_pfn"] as? Int } == [0, 4, 0x10000, 0x10004])
    #expect(cells.map { $0["ram_pages"] as? Int } == [4, 4, 4, 4])
    #expect(cells.map { $0["overlay_pages"] as? Int } == [1, 0, 0, 0])
    let changes = try bench.tool.json("map", "web/1", "latest~0")
    #expect(changes["base"] as? String == "web/1")
  }

  /// Cells of every size count as one would by hand.
  @Test(.slow, arguments: 0..<soakRounds(3))
  func cellsAddUp(round: Int) throws {
    var generator = TestGenerator(seed: UInt64(round + 7))
    let bench = try Workbench()
    func ram() -> LabelledRAM {
      LabelledRAM(
        low: (0..<120).map { _ in generator.oneIn(3) ? 0 : generator.int(1...150) },
        high: (0..<75).map { _ in generator.oneIn(3) ? 0 : generator.int(1...150) }
      )
    }
    let (parent, child, sibling, stranger) = (ram(), ram(), ram(), ram())
    try bench.save("parent", vm: "a", parent)
    try bench.save("child", vm: "a", child)
    try bench.save("sibling", vm: "a", sibling)
    try bench.save("stranger", vm: "b", stranger)
    func holds(_ ram: LabelledRAM) -> Set<Int> { Set(ram.labels.values) }
    let (inParent, inSibling, inStranger) = (holds(parent), holds(sibling), holds(stranger))
    func name(_ label: Int) -> String {
      label == 0
        ? "zero"
        : inStranger.contains(label)
          ? "shared_with_other_vms"
          : inParent.contains(label)
            ? "shared_with_parent" : inSibling.contains(label) ? "shared_within_vm" : "unique"
    }
    func change(_ old: Int, _ new: Int) -> String {
      old == new
        ? (old == 0 ? "zero" : "unchanged") : old == 0 ? "added" : new == 0 ? "zeroed" : "changed"
    }
    for cellCount in [1, 2, 5, 30, 195, 1000] {
      for arguments in [["child"], ["parent", "child"]] {
        let map = try bench.tool.start(
          ["map"] + arguments + ["--cells", "\(cellCount)", "--json"]
        ).wait().jsonObject()
        let cells = try #require(map["cells"] as? [[String: Any]])
        let size = try #require(map["cell_pages"] as? Int)
        #expect(cells.count <= cellCount)
        var found: [Int: [String: Int]] = [:]
        for cell in cells {
          let pages = try #require(cell["pages"] as? [String: Int])
          #expect(pages.values.reduce(0, +) == cell["ram_pages"] as? Int)
          let first = try #require(cell["first_pfn"] as? Int)
          #expect(first % size == 0)
          found[first] = pages.filter { $0.value > 0 }
        }
        var expected: [Int: [String: Int]] = [:]
        for (pfn, label) in child.labels {
          let name = arguments.count == 1 ? name(label) : change(parent.labels[pfn] ?? 0, label)
          expected[pfn / size * size, default: [:]][name, default: 0] += 1
        }
        #expect(found == expected, "\(arguments) \(cellCount)")
      }
    }
  }

  @Test func argumentsThatMakeNoSense() throws {
    func expect(_ arguments: [String], _ code: Int32, _ message: String) throws {
      expectFailure(try bench.tool.start(["map"] + arguments).wait(), code, message)
    }
    try expect(
      ["web/1", "-o", "map.gif"],
      64,
      #""map.gif" does not show the picture's format; give a name that ends in .svg, .png or .html"#
    )
    try expect(
      ["web/1", "-o", "-"],
      64,
      #""-" does not show the picture's format; give a name that ends in .svg, .png or .html"#
    )
    try expect(
      ["web/1", "--force"],
      64,
      "--force has no meaning without -o; leave it out, or name a file with -o"
    )
    for cells in ["0", "65537", "x"] {
      #expect(try bench.tool.run("map", "web/1", "--cells", cells).ending == .exit(64))
    }
    try expect(
      ["web/1", "web/9"],
      66,
      #"there is no snapshot "web/9"; did you mean "web/1" or "web/2"?"#
    )
  }

  /// A layout that a damaged or hostile store claims takes neither time nor memory.
  @Test func aHugeRegionIsBounded() throws {
    try bench.sql.run(
      """
      UPDATE memory_region SET bytes = 1 << 51, gpa = 1 << 51
       WHERE name = 'high' AND snapshot_id = 1;
      DELETE FROM ram_extent WHERE snapshot_id = 1 AND first_pfn >= 65536;
      INSERT INTO ram_extent
        SELECT 1, (1 << 39) + (1 << 38), 1, chunk_id, first_slot, 0 FROM ram_extent LIMIT 1;
      UPDATE ram_extent SET checksum = 0 WHERE snapshot_id = 1;
      UPDATE snapshot SET ram_checksum = 0, ram_bytes = (
          SELECT sum(bytes) FROM memory_region WHERE snapshot_id = 1),
        stored_pages = (SELECT sum(page_count) FROM ram_extent WHERE snapshot_id = 1)
       WHERE id = 1;
      """
    )
    let outcome = try bench.tool.start(["map", "web/1", "--json"]).wait()
    expectSuccess(outcome)
    #expect(outcome.maximumResidentByteCount < 100 << 20)
    #expect((try outcome.jsonObject()["cells"] as? [Any])?.count ?? 9999 <= 2048)
    // What is different is told by digests, and then extents must be those that were written.
    let other = try bench.tool.start(["map", "web/2", "web/1"]).wait()
    #expect(other.ending == .exit(65), "\(other)")
    #expect(other.maximumResidentByteCount < 100 << 20)
    try bench.sql.run("UPDATE overlay SET pfn = 1 << 51 WHERE snapshot_id = 1 AND pfn = 1280")
    expectSuccess(try bench.tool.run("map", "web/1"))
  }

  @Test(.slow) func sixtyFourGibibytesTakeNeitherMemoryNorLong() throws {
    let bench = try Workbench()
    let source = bench.directory.file("ram")
    try makeHole(source, byteCount: 64 << 30)
    var generator = TestGenerator(seed: 5)
    for index in 0..<1000 {
      try patchFile(source, at: index * (64 << 20), generator.incompressiblePage())
    }
    try bench.tool.succeed("save", source, "--qemu-machine", "q35", "--name", "a")
    try patchFile(source, at: 1 << 30, LabelledRAM.page(77))
    try bench.tool.succeed("save", source, "--qemu-machine", "q35", "--name", "b")
    for arguments in [["b"], ["a", "b"]] {
      let path = bench.directory.file("map-\(arguments.count).png")
      let outcome = try bench.tool.start(["map"] + arguments + ["-o", path, "--json"]).wait()
      expectSuccess(outcome)
      #expect(outcome.maximumResidentByteCount < 150 << 20)
      #expect(outcome.durationSeconds < 120)
      let map = try outcome.jsonObject()
      #expect(map["cell_pages"] as? Int == 1024)
      #expect((map["cells"] as? [Any])?.count == 16384)
      // 2 GiB of RAM lie below 4 GiB, so that the first GiB of the file is at its own address.
      #expect(
        map["classes"] as? [String: Int]
          == (arguments.count == 1
            ? [
              "zero": (16 << 20) - 1000, "unique": 1, "shared_with_parent": 999,
              "shared_within_vm": 0, "shared_with_other_vms": 0,
            ]
            : [
              "zero": (16 << 20) - 1000, "unchanged": 999, "added": 0, "zeroed": 0, "changed": 1,
            ])
      )
    }
  }
}
