import Testing
import VMCheckpointTestSupport

/// Saves of several batches, whose commits run beside the work on the next.
@Suite struct BatchTests {
  /// Pages are looked up in the parent and in the index while batches are committed: each content
  /// must be found, and stored once.
  @Test(.slow, arguments: [1, 2, 5])
  func pagesAreFoundWhileBatchesAreCommitted(threads: Int) throws {
    let bench = try Workbench()
    let (pageCount, pageByteCount) = (8000, 4096)
    let old = incompressibleRAM(pageCount, seed: 1)
    let new = incompressibleRAM(pageCount, seed: 2)
    func page(_ ram: [UInt8], _ index: Int) -> ArraySlice<UInt8> {
      ram[(index * pageByteCount)..<((index + 1) * pageByteCount)]
    }
    // One page in four stays, one in four comes from another place, and half are new: 16 MiB.
    var next: [UInt8] = []
    next.reserveCapacity(old.count)
    for index in 0..<pageCount {
      switch index % 4 {
      case 0: next += page(old, index)
      case 1: next += page(old, pageCount - 1 - index)
      default: next += page(new, index)
      }
    }
    let options = ["--vm", "batches", "--threads", "\(threads)"]
    let first = try bench.write("first.ram", old)
    #expect(try bench.tool.start(["save", first, "--name", "first"] + options).wait().succeeded)
    let second = try bench.write("second.ram", next)
    let outcome = try bench.tool.start(["save", second, "--name", "second", "--json"] + options)
      .wait()
    try #require(outcome.succeeded, "\(outcome)")
    #expect(try outcome.jsonObject()["new_pages"] as? Int == pageCount / 2)
    #expect(try bench.problems(expecting: [("first", old), ("second", next)]) == [])
  }

  @Test func stagesTellWhatWentThroughThem() throws {
    let bench = try Workbench()
    let ram = [UInt8](repeating: 0, count: 300 * 4096) + incompressibleRAM(700, seed: 3)
    let source = try bench.write("ram", ram)
    let saved = try stages(bench.tool.json("save", source, "--name", "a"))
    #expect(
      saved.map(\.name) == ["read", "scan", "digest", "look-up", "compress", "write", "sync"]
    )
    let bytes = Dictionary(uniqueKeysWithValues: saved.map { ($0.name, $0.bytes) })
    #expect(bytes["digest"] == 700 * 4096)
    #expect(bytes["look-up"] == 700 * 4096)
    #expect(bytes["compress"] == 700 * 4096)
    #expect(bytes["read"] == bytes["scan"])
    #expect(bytes["write"] == bytes["sync"])
    #expect(saved.allSatisfy { $0.seconds >= 0 && $0.seconds < 600 })
    let out = bench.directory.file("out")
    let restored = try stages(bench.tool.json("restore", "a", "-o", out))
    #expect(restored.map(\.name) == ["read", "decompress", "write", "sync"])
    #expect(restored.dropFirst().allSatisfy { $0.bytes == 700 * 4096 }, "\(restored)")
  }

  @Test func timingIsShownOnRequest() throws {
    let bench = try Workbench()
    let source = try bench.write("ram", sampleRAM(64))
    func text(_ arguments: String...) throws -> String {
      let outcome = try bench.tool.start(arguments).wait()
      try #require(outcome.succeeded, "\(outcome)")
      return String(decoding: outcome.standardOutput, as: UTF8.self)
    }
    #expect(try text("save", source, "--name", "a", "--timing").contains("\n  compress "))
    #expect(try !text("save", source, "--name", "b").contains("compress"))
    let (first, second) = (bench.directory.file("1"), bench.directory.file("2"))
    #expect(try text("restore", "a", "-o", first, "--timing").contains("\n  decompress "))
    #expect(try !text("restore", "a", "-o", second).contains("decompress"))
  }

  private struct Stage {
    var name: String
    var seconds: Double
    var bytes: Int
  }

  private func stages(_ result: [String: Any]) throws -> [Stage] {
    let stages = try #require(result["stages"] as? [[String: Any]])
    return try stages.map { stage in
      Stage(
        name: try #require(stage["stage"] as? String),
        seconds: try #require(stage["seconds"] as? Double),
        bytes: try #require(stage["bytes"] as? Int)
      )
    }
  }
}
