import Glibc
import Testing
import VMCheckpointTestSupport

/// RAM much larger than memory may be used for it.
@Suite struct LargeSparseTests {
  private static let byteCount = 8 << 30
  private static let memoryLimit = 192 << 20

  @Test(.slow) func eightGibibytesTakeNeitherMemoryNorLong() throws {
    let bench = try Workbench()
    let source = bench.directory.file("ram")
    try makeHole(source, byteCount: Self.byteCount)
    // Islands of data: at the start, at the end, and every 128 MiB.
    var generator = TestGenerator(seed: 1)
    var islands: [(offset: Int, bytes: [UInt8])] = []
    for offset in stride(from: 0, to: Self.byteCount, by: 128 << 20) {
      islands.append((offset, generator.mixedImage(pageCount: generator.int(1...600))))
    }
    islands.append((Self.byteCount - 4096, generator.incompressiblePage()))
    for (offset, bytes) in islands { try patchFile(source, at: offset, bytes) }

    func expectBounded(_ arguments: String...) throws {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.succeeded, "\(outcome)")
      #expect(
        outcome.maximumResidentByteCount < Self.memoryLimit,
        "\(outcome.maximumResidentByteCount >> 20) MiB: \(arguments)"
      )
      #expect(outcome.durationSeconds < 120, "\(arguments)")
    }
    let out = bench.directory.file("out")
    try expectBounded("save", source, "--name", "a")
    try expectBounded("restore", "a", "-o", out)
    try expectBounded("verify")
    #expect(try fileSize(out).byteCount == Self.byteCount)
    #expect(try fileSize(out).allocated < 256 << 20, "the restored file is not sparse")
    for (offset, bytes) in islands {
      #expect(try readFile(out, at: offset, byteCount: bytes.count) == bytes, "at \(offset)")
    }
    let pages = islands.reduce(0) { $0 + pageCount($1.bytes) }
    #expect(try bench.sql.integer("SELECT stored_pages FROM snapshot") == pages)
    // Streams cannot skip holes, but must not take more memory either.
    let stream = try bench.tool.start(
      ["save", "-", "--name", "b"],
      input: .file(source)
    ).wait()
    #expect(stream.succeeded, "\(stream)")
    #expect(stream.maximumResidentByteCount < Self.memoryLimit)
    let diff = try bench.tool.json("diff", "a", "b")
    #expect(diff["identical"] as? Bool == true)
    try expectBounded("diff", "a", "b")
    try expectBounded("list")
    try expectBounded("delete", "a")
    try expectBounded("gc")
  }

  private func pageCount(_ bytes: [UInt8]) -> Int {
    stride(from: 0, to: bytes.count, by: 4096).filter { start in
      bytes[start..<(start + 4096)].contains { $0 != 0 }
    }.count
  }
}
