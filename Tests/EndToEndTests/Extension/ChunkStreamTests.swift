import Testing
import VMCheckpointTestSupport

/// Searches read many chunks, which a thread decodes ahead.
@Suite struct ChunkStreamTests {
  private let bench: Workbench
  private let shell: ExtensionShell
  private static let pageCount = 2400
  private static let marker: [UInt8] = Array("a mark of each page".utf8)

  init() throws {
    bench = try Workbench()
    shell = ExtensionShell(bench.storePath)
  }

  /// Pages that differ, half of them incompressible, each with the mark at another place.
  private func markedPages() -> [[UInt8]] {
    var generator = TestGenerator(seed: 31)
    return (0..<Self.pageCount).map { index in
      var page =
        index % 32 < 16 ? generator.incompressiblePage() : [UInt8](repeating: 1, count: 4096)
      let place = generator.int(0...(4096 - Self.marker.count - 8))
      page.replaceSubrange(place..<(place + Self.marker.count), with: Self.marker)
      page.replaceSubrange(
        4088...,
        with: withUnsafeBytes(of: UInt64(index).littleEndian, Array.init)
      )
      return page
    }
  }

  private func places(in ram: [[UInt8]]) -> [Int] {
    ram.enumerated().map { index, page in
      index * 4096 + (0..<4096).first { page[$0...].starts(with: Self.marker) }!
    }
  }

  private func search(_ name: String) throws -> (places: [Int], error: String) {
    let outcome = try shell.start(
      "SELECT gpa FROM ram_search('\(name)', '\(String(decoding: Self.marker, as: UTF8.self))');"
    )
    return (outcome.text.split(separator: "\n").compactMap { Int($0) }, outcome.standardError)
  }

  /// The second guest's extents name the first one's chunks in any order, many times each.
  @Test func chunksInAnyOrderAreReadAsOnesInOrder() throws {
    var generator = TestGenerator(seed: 32)
    let first = markedPages()
    let second = first.shuffled(using: &generator)
    try bench.save("a", Array(first.joined()))
    try bench.save("b", Array(second.joined()))
    for (name, ram) in [("a", first), ("b", second)] {
      let found = try search(name)
      #expect(found.error == "")
      #expect(found.places == places(in: ram), "\(name)")
    }
  }

  /// A chunk that takes long, with fifteen behind it that take no time: the thread comes round to the long one's place
  /// while that is decoded.
  @Test func aThreadThatIsAheadTakesNoChunkTwice() throws {
    var generator = TestGenerator(seed: 33)
    let pages = markedPages()
    // Without fingerprints, chunks are proved by SHA-256.
    let long = (0..<7).map { Array(pages[(16 + $0 * 32)..<(32 + $0 * 32)]) }
    for (index, chunk) in long.enumerated() {
      try bench.save("long\(index)", Array(chunk.joined()))
    }
    try bench.sql.run("UPDATE chunk SET fingerprints = zeroblob(length(fingerprints))")
    // Each is a chunk of its own. There are more of them than a stream keeps.
    let short = (0..<91).map { (_: Int) -> [UInt8] in
      var page = generator.incompressiblePage()
      page.replaceSubrange(2000..<(2000 + Self.marker.count), with: Self.marker)
      return page
    }
    for (index, page) in short.enumerated() { try bench.save("short\(index)", Array(page)) }
    var round: [[UInt8]] = []
    for index in 0..<7 { round += long[index] + short[(index * 13)..<(index * 13 + 13)] }
    let ram = Array(repeating: round, count: 6).flatMap { $0 }
    try bench.save("all", Array(ram.joined()))
    #expect(try bench.sql.integer("SELECT count(*) FROM chunk") == 98)
    for attempt in 0..<10 {
      let found = try search("all")
      #expect(found.error == "", "attempt \(attempt)")
      #expect(found.places == places(in: ram), "attempt \(attempt)")
    }
  }

  /// Damage is seen when a chunk is decoded, and missing data when it is read ahead.
  @Test(
    arguments: ["UPDATE chunk_data SET data = zeroblob(length(data))", "DELETE FROM chunk_data"],
    [1, 9, 70, 149]
  )
  func allBeforeADamagedChunkIsFoundAndThenTheErrorSaid(damage: String, chunkID: Int) throws {
    let ram = markedPages()
    try bench.save("a", Array(ram.joined()))
    try bench.sql.run("\(damage) WHERE chunk_id = \(chunkID)")
    let firstPFN = try bench.sql.integer(
      "SELECT min(first_pfn) FROM ram_extent WHERE chunk_id = \(chunkID)"
    )
    let found = try search("a")
    #expect(found.error.contains("chunk \(chunkID): "), "\(found.error)")
    // A match at the very end is given once the bytes behind it are known.
    let before = places(in: ram).filter { $0 < firstPFN * 4096 }
    #expect(found.places == before || found.places == before.dropLast())
  }
}
