import Testing
import VMCheckpointTestSupport

/// What a save does with the pages that its parent has: it is a short cut, and must change nothing
/// but the time.
@Suite struct ParentTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
  }

  /// Restores what was saved, and compares it.
  private func expectRestored(_ name: String, _ ram: [UInt8]) throws {
    let out = bench.directory.file("\(name).out")
    let restored = try bench.tool.run("restore", name, "-o", out, "--verify")
    #expect(restored.succeeded, "\(restored)")
    #expect(try readFile(out) == ram, "\(name) came back differently")
  }

  private func hashedByteCount(_ save: [String: Any]) throws -> Int {
    let stages = try #require(save["stages"] as? [[String: Any]])
    let digest = try #require(stages.first { $0["stage"] as? String == "digest" })
    return try #require(digest["bytes"] as? Int)
  }

  @Test func anUnchangedPageIsNotHashedAgain() throws {
    var generator = TestGenerator(seed: 5)
    let original = generator.mixedImage(pageCount: 3000)
    var ram = original
    let source = try bench.write("ram", ram)
    let first = try bench.tool.json("save", source, "--name", "a", "--vm", "v")
    #expect(try hashedByteCount(first) > 0)
    let second = try bench.tool.json("save", source, "--name", "b", "--vm", "v")
    #expect(try hashedByteCount(second) == 0)
    #expect(second["new_pages"] as? Int == 0)
    // One bit of one page that was stored.
    let page = try #require((0..<3000).last { ram[$0 * 4096 + 17] != 0 })
    ram[page * 4096 + 17] ^= 1
    try writeFile(source, ram)
    let third = try bench.tool.json("save", source, "--name", "c", "--vm", "v")
    #expect(try hashedByteCount(third) == 4096)
    #expect(third["new_pages"] as? Int == 1)
    try expectRestored("b", original)
    try expectRestored("c", ram)
  }

  /// With no fingerprints to go by, or with those of another seed, pages are found by SHA-256.
  @Test(
    .slow,
    arguments: [
      "UPDATE store SET fingerprint_seed = fingerprint_seed + 1",
      "UPDATE chunk SET fingerprints = zeroblob(length(fingerprints))",
      "PRAGMA ignore_check_constraints = ON; UPDATE chunk SET fingerprints = x''",
    ]
  )
  func withoutFingerprintsNothingIsStoredTwice(sql: String) throws {
    var generator = TestGenerator(seed: 6)
    let ram = generator.mixedImage(pageCount: 1000)
    let source = try bench.write("ram", ram)
    try bench.save("a", ram, "--vm", "v")
    try bench.sql.run(sql)
    let second = try bench.tool.json("save", source, "--name", "b", "--vm", "v")
    #expect(second["new_pages"] as? Int == 0)
    try expectRestored("b", ram)
  }

  /// A parent whose pages lie where the child has none, over more than is read ahead at once.
  @Test(.slow, arguments: ["1", "4"])
  func aChildThatSkipsMuchOfItsParentIsSaved(threads: String) throws {
    let byteCount = 160 << 20
    var generator = TestGenerator(seed: 7)
    let early = generator.mixedImage(pageCount: 300)
    let late = generator.mixedImage(pageCount: 700)
    let parent = bench.directory.file("parent")
    let child = bench.directory.file("child")
    // A page in each block of the parent, from the first to the last.
    var parts = stride(from: 2 << 20, to: 150 << 20, by: 256 << 10).map { offset in
      (offset: offset, bytes: generator.compressiblePage())
    }
    parts.append((155 << 20, late))
    try writeSparseFile(parent, byteCount: byteCount, [(0, early)] + parts)
    try writeSparseFile(child, byteCount: byteCount, [(0, early), (155 << 20, late)])
    let saved = try bench.tool.run("save", parent, "--name", "a", "--vm", "v", "--threads", threads)
    #expect(saved.succeeded, "\(saved)")
    let second = try bench.tool.run(
      "save",
      child,
      "--name",
      "b",
      "--vm",
      "v",
      "--threads",
      threads,
      "--json"
    )
    #expect(second.succeeded, "\(second)")
    #expect(try second.jsonObject()["new_pages"] as? Int == 0)
    try expectRestored("b", try readFile(child))
    try expectRestored("a", try readFile(parent))
  }

  /// Pages that moved, regions that moved: the parent has other content at each PFN.
  @Test func aChildWhoseRegionsLieElsewhereIsSaved() throws {
    var generator = TestGenerator(seed: 8)
    let ram = generator.mixedImage(pageCount: 2000)
    let source = try bench.write("ram", ram)
    try bench.save("a", ram, "--vm", "v")
    for (name, gpa) in [("b", "0x3000"), ("c", "0x400000000"), ("d", "0xff000")] {
      let saved = try bench.tool.json(
        "save",
        source,
        "--name",
        name,
        "--vm",
        "v",
        "--region",
        "gpa=\(gpa),size=\(ram.count)"
      )
      #expect(saved["new_pages"] as? Int == 0)
      try expectRestored(name, ram)
    }
  }
}
