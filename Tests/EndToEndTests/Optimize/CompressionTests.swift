import Foundation
import Testing
import VMCheckpointTestSupport

/// `save --compression`, seen from outside.
@Suite struct CompressionTests {
  private static let settings = ["none", "fast", "default", "high"]

  @Test(arguments: settings)
  func everySettingRoundTripsAndOpensWithTheLZ4Tool(setting: String) throws {
    let bench = try Workbench()
    // How shuffled ones come out of the tool, PageShuffleTests tell.
    var generator = TestGenerator(seed: 11)
    let ram = (0..<500).flatMap { index in
      index % 9 == 8 ? generator.incompressiblePage() : generator.compressiblePage()
    }
    let source = try bench.write("ram", ram)
    let saved = try bench.tool.json("save", source, "--name", "a", "--compression", setting)
    #expect(saved["compression"] as? String == setting)
    #expect(try bench.restore("a") == ram)
    expectSuccess(try bench.tool.verify())
    let frames = try bench.sql.integer("SELECT count(*) FROM chunk WHERE encoding = 'lz4'")
    guard setting != "none" else {
      #expect(frames == 0)
      return
    }
    #expect(frames > 0)
    let frame = bench.directory.file("chunk.lz4")
    try bench.sql.run(
      """
      SELECT writefile('\(frame)', data) FROM chunk_data
       WHERE chunk_id = (SELECT min(id) FROM chunk WHERE encoding = 'lz4')
      """
    )
    let opened = try run(["/usr/bin/env", "lz4", "-d", "-c", frame])
    #expect(opened.ending == .exit(0))
    let digest = try bench.sql.run(
      """
      SELECT digest FROM chunk_page
       WHERE slot = 0 AND chunk_id = (SELECT min(id) FROM chunk WHERE encoding = 'lz4')
      """
    )
    try writeFile(bench.directory.file("page"), Array(opened.standardOutput.prefix(4096)))
    let sum = try run(["/usr/bin/env", "sha256sum", bench.directory.file("page")])
    #expect(sum.text.hasPrefix(digest))
  }

  /// Threads finish in any order, and must not show in the store.
  @Test(.slow, arguments: settings)
  func theSameRAMMakesTheSameChunks(setting: String) throws {
    let ram = sampleRAM(3000, seed: 12)
    let contents = try ["1", "4"].map { threads in
      let bench = try Workbench()
      try bench.save("a", ram, "--compression", setting, "--threads", threads)
      return try bench.sql.run(
        """
        SELECT c.id, c.encoding, hex(c.digests), hex(d.data)
          FROM chunk c JOIN chunk_data d ON d.chunk_id = c.id ORDER BY c.id
        """
      )
    }
    #expect(contents[0] == contents[1])
  }

  /// Overlays' pages go the same way as pages of RAM.
  @Test func snapshotsOfDifferentSettingsShareTheirPages() throws {
    let bench = try Workbench()
    let ram = sampleRAM(800, seed: 13)
    let digests = try Set(
      Self.settings.map { try bench.save($0, ram, "--compression", $0, "--vm", "web") }
    )
    #expect(digests.count == 1)
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot WHERE new_pages > 0") == 1)
    try expectSound(bench, Self.settings.map { ($0, ram) }, "with four settings")
  }

  @Test func anUnknownSettingIsRefused() throws {
    let bench = try Workbench()
    let source = try bench.write("ram", sampleRAM(4))
    let outcome = try bench.tool.run("save", source, "--compression", "zstd")
    #expect(outcome.ending == .exit(64))
    #expect(outcome.standardError.contains("none"))
    #expect(!exists(bench.storePath))
  }
}
