import Testing
import VMCheckpointTestSupport

/// Whoever holds the number of a chunk that is gone must find nothing, never something else.
@Suite struct ChunkNumberTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
  }

  private func numbers() throws -> (first: Int, last: Int) {
    (
      try bench.sql.integer("SELECT coalesce(min(id), 0) FROM chunk"),
      try bench.sql.integer("SELECT coalesce(max(id), 0) FROM chunk")
    )
  }

  @Test func numbersOfDeletedChunksAreNotGivenAgain() throws {
    try bench.save("a", sampleRAM(100))
    let before = try numbers()
    try bench.tool.succeed("delete", "a")
    try bench.tool.succeed("gc")
    #expect(try numbers() == (0, 0))
    try bench.save("b", sampleRAM(100, seed: 2))
    #expect(try numbers().first > before.last)
  }

  @Test func numbersOfAFailedSaveAreNotGivenAgain() throws {
    try bench.save("a", sampleRAM(20))
    let before = try numbers()
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "b", "--region", "gpa=0,size=1G,name=ram"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(incompressibleRAM(4000))
    // Some of it is committed by now; that the stream ends is an error.
    pipe.closeWriter()
    #expect(try save.wait().ending != .exit(0))
    #expect(try numbers().last == before.last)
    let given = try bench.sql.integer("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'")
    try bench.save("c", sampleRAM(40, seed: 3))
    #expect(try bench.sql.integer("SELECT max(id) FROM chunk") > given)
    #expect(
      try bench.sql.integer(
        "SELECT count(*) FROM chunk WHERE id > \(before.last) AND id <= \(given)"
      )
        == 0
    )
  }

  @Test(.slow) func numbersOfRepackedAndOptimizedChunksAreNotGivenAgain() throws {
    for command in ["gc", "optimize"] {
      let bench = try Workbench()
      let ram = sampleRAM(400, seed: 7)
      try bench.save("all", ram)
      var few = ram
      for page in 0..<400 where page % 8 != 0 {
        few.replaceSubrange(
          (page * 4096)..<((page + 1) * 4096),
          with: repeatElement(0, count: 4096)
        )
      }
      try bench.save("few", few)
      try bench.save("last", incompressibleRAM(400))
      try bench.tool.succeed("delete", "all", "last")
      // The highest numbers are of chunks that are gone.
      let given = try bench.sql.integer("SELECT seq FROM sqlite_sequence WHERE name = 'chunk'")
      #expect(try bench.sql.integer("SELECT max(id) FROM chunk") < given)
      try bench.tool.succeed(command)
      #expect(try bench.sql.integer("SELECT min(id) FROM chunk") > given)
      #expect(try bench.restore("few") == few)
    }
  }

  /// An edited or rescued store has lost the counter, or has one that is too low.
  @Test(arguments: [
    "DELETE FROM sqlite_sequence", "UPDATE sqlite_sequence SET seq = 1",
    "UPDATE sqlite_sequence SET seq = 'text'",
  ])
  func aLostCounterOverwritesNothing(sql: String) throws {
    try bench.save("a", sampleRAM(100))
    try bench.sql.run(sql)
    let ram = sampleRAM(100, seed: 2)
    try bench.save("b", ram)
    #expect(try bench.restore("a") == sampleRAM(100))
    #expect(try bench.restore("b") == ram)
  }
}
