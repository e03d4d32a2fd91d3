import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

/// Pages whose bytes are stored in another order.
@Suite struct PageShuffleTests {
  private static let mark: [UInt8] = [0x58, 0x2a, 0x4d, 0x18, 6, 0, 0, 0]

  /// Whoever has only the file and the lz4 tool must get the pages out.
  @Test(arguments: [1, 5, 16], [ChunkCompression.fast, .default, .high])
  func shuffledPagesComeOutOfTheLZ4ToolByTheFormula(
    pageCount: Int,
    compression: ChunkCompression
  ) throws {
    var generator = TestGenerator(seed: UInt64(pageCount))
    let directory = try TemporaryDirectory()
    for round in 0..<5 {
      let pages = (0..<pageCount).map { _ in
        round > 0 && generator.oneIn(3) ? textPage(&generator) : generator.pointerPage()
      }
      let chunk = try ChunkProbe(pages: pages.flatMap { $0 }, compression: compression)
      #expect(try chunk.pages(verifyingDigests: true).get() == pages.flatMap { $0 })
      try writeFile(directory.file("chunk.lz4"), chunk.stored)
      let outcome = try run(["/usr/bin/env", "lz4", "-d", "-c", directory.file("chunk.lz4")])
      try #require(chunk.encoding == "lz4" && outcome.ending == .exit(0))
      let bits = shuffledBits(chunk)
      for slot in 0..<pageCount {
        let stored = Array(outcome.standardOutput[(slot * 4096)..<((slot + 1) * 4096)])
        let page = bits & 1 << slot == 0 ? stored : unshuffled(stored)
        #expect(page == pages[slot], "slot \(slot) of \(bits)")
      }
      if round == 0 { #expect(bits == 1 << pageCount - 1) }
    }
  }

  @Test func pagesOfPointersTakeLessRoomThanAsTheyAre() throws {
    var generator = TestGenerator(seed: 40)
    let pages = (0..<16).flatMap { _ in generator.pointerPage() }
    let plain = try ChunkProbe.libraryFrame(of: pages).count
    for compression in [ChunkCompression.fast, .default, .high] {
      let chunk = try ChunkProbe(pages: pages, compression: compression)
      #expect(chunk.stored.count < plain * 9 / 10, "\(chunk.stored.count) of \(plain)")
    }
  }

  /// What LZ4 does well stays readable for everyone.
  @Test func onlyPagesThatGainAreShuffled() throws {
    var generator = TestGenerator(seed: 41)
    let text = (0..<16).map { _ in textPage(&generator) }
    #expect(try shuffledBits(ChunkProbe(pages: text.flatMap { $0 })) == 0)
    let runs = (0..<16).flatMap { _ in generator.compressiblePage() }
    #expect(try shuffledBits(ChunkProbe(pages: runs)) == 0)
    var mixed = text
    for slot in [0, 3, 15] { mixed[slot] = generator.pointerPage() }
    #expect(try shuffledBits(ChunkProbe(pages: mixed.flatMap { $0 })) == 0b1000_0000_0000_1001)
    let none = try ChunkProbe(pages: mixed.flatMap { $0 }, compression: .none)
    #expect(none.encoding == "raw" && none.stored == mixed.flatMap { $0 })
  }

  @Test func marksThatLieAreErrorsAndNotData() throws {
    var generator = TestGenerator(seed: 42)
    let pages = (0..<5).flatMap { _ in generator.pointerPage() }
    let chunk = try ChunkProbe(pages: pages)
    try #require(shuffledBits(chunk) == 0b11111)
    // Without digests: a plain restore relies on checksums.
    for bit in 0..<(14 * 8) {
      var damaged = chunk
      damaged.stored[chunk.stored.count - 14 + bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: ChunkProbe.ChunkProblem.self, "bit \(bit)") {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
    for length in (chunk.stored.count - 20)..<chunk.stored.count
    where length != chunk.stored.count - 14 {
      var damaged = chunk
      damaged.stored = Array(chunk.stored.prefix(length))
      #expect(throws: ChunkProbe.ChunkProblem.self, "\(length) bytes") {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
    // The mark of another chunk; none, which only digests tell; and one that is not needed.
    let other = try ChunkProbe(pages: (0..<5).flatMap { _ in generator.pointerPage() })
    let text = try ChunkProbe(pages: (0..<5).flatMap { _ in textPage(&generator) })
    for stored in [
      chunk.stored.dropLast(14) + other.stored.suffix(14),
      chunk.stored + chunk.stored.suffix(14), text.stored + chunk.stored.suffix(14),
    ] {
      var damaged = chunk
      damaged.stored = Array(stored)
      #expect(throws: ChunkProbe.ChunkProblem.self) {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
    var unmarked = chunk
    unmarked.stored.removeLast(14)
    #expect(throws: ChunkProbe.ChunkProblem.self) {
      try unmarked.pages(verifyingDigests: true).get()
    }
  }

  private func shuffledBits(_ chunk: ChunkProbe) -> Int {
    let end = Array(chunk.stored.suffix(14))
    guard Array(end.prefix(8)) == Self.mark else { return 0 }
    return Int(end[8]) | Int(end[9]) << 8
  }

  /// By the format's article: byte j of word i stands at 512 j + i.
  private func unshuffled(_ stored: [UInt8]) -> [UInt8] {
    (0..<512).flatMap { word in (0..<8).map { byte in stored[byte * 512 + word] } }
  }

  private func textPage(_ generator: inout TestGenerator) -> [UInt8] {
    let words = ["overlay", "page", "of", "guest", "memory", "checkpoint", "and", "restore"]
    var text = ""
    while text.utf8.count < Page.byteCount {
      text += words[generator.int(0...7)] + (generator.oneIn(9) ? ".\n" : " ")
    }
    return Array(text.utf8.prefix(Page.byteCount))
  }
}
