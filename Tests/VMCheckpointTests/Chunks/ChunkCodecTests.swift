import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

@Suite struct ChunkCodecTests {
  @Test(arguments: [1, 2, 7, 15, 16])
  func chunksAreNotChangedByCompression(pageCount: Int) throws {
    var generator = TestGenerator(seed: UInt64(pageCount))
    for isCompressible in [true, false] {
      let pages = generator.pages(pageCount, compressible: isCompressible)
      let chunk = try ChunkProbe(pages: pages)
      #expect(chunk.encoding == (isCompressible ? "lz4" : "raw"))
      #expect(try chunk.pages(verifyingDigests: true).get() == pages)
    }
  }

  @Test(arguments: ChunkCompression.allCases)
  func everyCompressionGivesThePagesBack(compression: ChunkCompression) throws {
    var generator = TestGenerator(seed: 31)
    for pageCount in [1, 3, 16] {
      for isCompressible in [true, false] {
        let pages = generator.pages(pageCount, compressible: isCompressible)
        let chunk = try ChunkProbe(pages: pages, compression: compression)
        #expect(chunk.encoding == (isCompressible && compression != .none ? "lz4" : "raw"))
        #expect(try chunk.pages(verifyingDigests: true).get() == pages)
        // Whatever the thread has compressed before.
        #expect(try ChunkProbe(pages: pages, compression: compression).stored == chunk.stored)
      }
    }
  }

  @Test func harderCompressionIsNeverLarger() throws {
    var generator = TestGenerator(seed: 32)
    // Words of a small vocabulary, which reward a search for longer matches.
    let words = (0..<64).map { _ in
      (0..<generator.int(3...9)).map { _ in UInt8(generator.int(97...122)) }
    }
    var pages: [UInt8] = []
    while pages.count < 16 * Page.byteCount { pages += words[generator.int(0...63)] + [32] }
    pages.removeSubrange((16 * Page.byteCount)...)
    let sizes = try [ChunkCompression.none, .fast, .default, .high].map {
      try ChunkProbe(pages: pages, compression: $0).stored.count
    }
    #expect(sizes == sizes.sorted(by: >))
    #expect(Set(sizes).count == 4)
  }

  /// Whoever has only the file and the lz4 tool must get the pages out.
  @Test(arguments: [1, 5, 16], [ChunkCompression.fast, .default, .high])
  func framesOpenWithTheLZ4Tool(pageCount: Int, compression: ChunkCompression) throws {
    var generator = TestGenerator(seed: UInt64(pageCount))
    let directory = try TemporaryDirectory()
    let pages = generator.pages(pageCount, compressible: true)
    let chunk = try ChunkProbe(pages: pages, compression: compression)
    try writeFile(directory.file("chunk.lz4"), chunk.stored)
    let outcome = try run(["/usr/bin/env", "lz4", "-d", "-c", directory.file("chunk.lz4")])
    #expect(outcome.ending == .exit(0))
    #expect(outcome.standardOutput == pages)
  }

  /// Chunks have frames of vmckpt's own making, which must be those that liblz4 makes.
  @Test func framesAreThoseOfTheLZ4Library() throws {
    var generator = TestGenerator(seed: 16)
    for pageCount in 1...16 {
      let zeros = [UInt8](repeating: 0, count: pageCount * Page.byteCount)
      let half = (0..<pageCount).flatMap { index in
        index % 2 == 0 ? generator.compressiblePage() : generator.incompressiblePage()
      }
      for pages in [zeros, half, generator.pages(pageCount, compressible: true)] {
        let chunk = try ChunkProbe(pages: pages)
        #expect(chunk.encoding == "lz4")
        #expect(try chunk.stored == ChunkProbe.libraryFrame(of: pages), "\(pageCount) pages")
      }
    }
  }

  /// What another tool has put into a store: smaller blocks, no content size, linked blocks.
  @Test func otherFramesAreReadAsWell() throws {
    var generator = TestGenerator(seed: 17)
    let directory = try TemporaryDirectory()
    let pages = generator.pages(16, compressible: true)
    try writeFile(directory.file("pages"), pages)
    for options in [["-1"], ["-9", "-BD"], ["-1", "-B4"], ["-1", "--content-size"]] {
      let outcome = try run(
        ["/usr/bin/env", "lz4", "-c"] + options + [directory.file("pages")]
      )
      try #require(outcome.ending == .exit(0))
      var chunk = try ChunkProbe(pages: pages)
      chunk.stored = outcome.standardOutput
      #expect(try chunk.pages(verifyingDigests: true).get() == pages, "\(options)")
    }
  }

  /// The values are those of the xxhsum tool.
  @Test func checksumsAreThoseOfXXHash() {
    let bytes = (0..<100).map { UInt8($0 * 7 % 256) }
    let known: [Int: UInt32] = [
      0: 0x02CC_5D05,
      1: 0xCF65_B03E,
      3: 0x1474_4175,
      4: 0xC8F6_0FC5,
      15: 0x8807_D6B2,
      16: 0xB59B_7E13,
      17: 0x20DD_4529,
      31: 0xDC5B_7443,
      32: 0xD7F7_0F45,
      63: 0xC7C2_1636,
      100: 0xAA19_E8B7,
    ]
    for (count, hash) in known {
      #expect(ChunkProbe.checksum(of: Array(bytes.prefix(count))) == hash, "\(count) bytes")
    }
  }

  @Test func storedBytesAreNeverLongerThanThePages() throws {
    var generator = TestGenerator(seed: 9)
    for pageCount in 1...16 {
      let chunk = try ChunkProbe(pages: generator.pages(pageCount, compressible: false))
      #expect(chunk.stored.count == pageCount * Page.byteCount)
    }
  }

  @Test func truncatedFramesAreErrors() throws {
    var generator = TestGenerator(seed: 10)
    let chunk = try ChunkProbe(pages: generator.pages(5, compressible: true))
    for length in 0..<chunk.stored.count {
      var damaged = chunk
      damaged.stored = Array(chunk.stored.prefix(length))
      #expect(throws: ChunkProbe.ChunkProblem.self, "\(length) bytes") {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
  }

  @Test func extendedFramesAreErrors() throws {
    var generator = TestGenerator(seed: 11)
    let chunk = try ChunkProbe(pages: generator.pages(5, compressible: true))
    for extra in [[0], chunk.stored, Array(repeating: UInt8(0), count: 4096)] {
      var damaged = chunk
      damaged.stored += extra
      #expect(throws: ChunkProbe.ChunkProblem.self) {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
  }

  /// The content's checksum must catch whatever the decoder lets through.
  @Test func flippedBitsNeverGiveWrongPages() throws {
    var generator = TestGenerator(seed: 12)
    let pages = generator.pages(4, compressible: true)
    let chunk = try ChunkProbe(pages: pages)
    for bit in 0..<(chunk.stored.count * 8) {
      var damaged = chunk
      damaged.stored[bit / 8] ^= 1 << (bit % 8)
      guard case .success(let read) = try damaged.pages(verifyingDigests: false) else { continue }
      #expect(read == pages, "bit \(bit)")
    }
  }

  /// A restore asks the fingerprints before any checksum, and then must notice as much.
  @Test(.slow, arguments: ["lz4", "shuffled", "raw"])
  func restoresNeverGiveWrongPages(form: String) throws {
    var generator = TestGenerator(seed: 33)
    let pages =
      form == "shuffled"
      ? generator.pointerPage() + generator.pointerPage()
      : generator.pages(2, compressible: form == "lz4")
    let chunk = try ChunkProbe(pages: pages)
    #expect(chunk.encoding == (form == "raw" ? "raw" : "lz4"))
    #expect(try chunk.restoredPages().get() == pages)
    var refusedCount = 0
    for bit in 0..<(chunk.stored.count * 8) where form != "raw" || bit % 61 == 0 {
      var damaged = chunk
      damaged.stored[bit / 8] ^= 1 << (bit % 8)
      switch try damaged.restoredPages() {
      case .success(let read): #expect(read == pages, "bit \(bit)")
      case .failure: refusedCount += 1
      }
    }
    #expect(refusedCount > 100)
  }

  /// A VM that waits for one page gets it before the rest of its chunk is decoded, and then nothing else proves it.
  @Test(.slow, arguments: ["lz4", "shuffled", "raw"])
  func aPageAloneIsTheRightOneOrNone(form: String) throws {
    var generator = TestGenerator(seed: 37)
    let pageCount = 5
    let pages =
      form == "shuffled"
      ? (0..<pageCount).flatMap { _ in generator.pointerPage() }
      : generator.pages(pageCount, compressible: form == "lz4")
    func page(_ slot: Int) -> ArraySlice<UInt8> { pages[(slot * 4096)..<(slot * 4096 + 4096)] }
    let chunk = try ChunkProbe(pages: pages)
    #expect(chunk.encoding == (form == "raw" ? "raw" : "lz4"))
    for slot in 0..<pageCount { #expect(try chunk.pageAlone(slot).map { $0[...] } == page(slot)) }
    var refusedCount = 0
    for bit in stride(from: 0, to: chunk.stored.count * 8, by: form == "raw" ? 1999 : 41) {
      var damaged = chunk
      damaged.stored[bit / 8] ^= 1 << (bit % 8)
      for slot in 0..<pageCount {
        guard let alone = try damaged.pageAlone(slot) else {
          refusedCount += 1
          continue
        }
        #expect(alone[...] == page(slot), "bit \(bit)")
      }
    }
    #expect(refusedCount > 50)
    for byteCount in stride(from: 0, to: chunk.stored.count, by: 401) {
      var cut = chunk
      cut.stored = Array(chunk.stored.prefix(byteCount))
      for slot in 0..<pageCount { #expect(try cut.pageAlone(slot) == nil) }
    }
    // Without a fingerprint nothing is proved.
    for fingerprints in [[], Array(chunk.fingerprints.dropLast(8))] {
      var other = chunk
      other.fingerprints = fingerprints
      #expect(try other.pageAlone(0) == nil)
    }
  }

  /// Fingerprints are hints: pages that are whole are read whatever they say.
  @Test(arguments: [true, false])
  func wrongFingerprintsLoseNoPage(isCompressible: Bool) throws {
    var generator = TestGenerator(seed: 34)
    let pages = generator.pages(3, compressible: isCompressible)
    let chunk = try ChunkProbe(pages: pages)
    for fingerprints in [[], Array(chunk.fingerprints.dropLast(8)), Array(repeating: 0, count: 24)]
    {
      var other = chunk
      other.fingerprints = fingerprints
      #expect(try other.restoredPages().get() == pages)
    }
  }

  /// Its frame is whole, and so no checksum tells.
  @Test func anotherChunksDataIsNotTakenForAChunks() throws {
    var generator = TestGenerator(seed: 36)
    for isCompressible in [true, false] {
      var chunk = try ChunkProbe(pages: generator.pages(4, compressible: isCompressible))
      let other = try ChunkProbe(pages: generator.pages(4, compressible: isCompressible))
      chunk.stored = other.stored
      #expect(throws: ChunkProbe.ChunkProblem.self) { try chunk.restoredPages().get() }
    }
  }

  @Test func verificationDoesNotRelyOnFingerprints() throws {
    var generator = TestGenerator(seed: 35)
    var chunk = try ChunkProbe(pages: generator.pages(2, compressible: true))
    chunk.digests[40] ^= 1
    #expect(throws: ChunkProbe.ChunkProblem.self) {
      try chunk.pages(verifyingDigests: true).get()
    }
  }

  @Test func framesOfAnotherLengthAreErrors() throws {
    var generator = TestGenerator(seed: 13)
    let pages = generator.pages(6, compressible: true)
    let chunk = try ChunkProbe(pages: pages)
    for count in [1, 5, 7, 16] {
      var damaged = chunk
      damaged.digests = Array((chunk.digests + chunk.digests + chunk.digests).prefix(count * 32))
      #expect(throws: ChunkProbe.ChunkProblem.self, "\(count) pages") {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
  }

  @Test func rawChunksAreAlwaysCheckedAgainstTheirDigests() throws {
    var generator = TestGenerator(seed: 14)
    let chunk = try ChunkProbe(pages: generator.pages(3, compressible: false))
    for _ in 0..<50 {
      var damaged = chunk
      damaged.stored[generator.int(0...(chunk.stored.count - 1))] ^=
        1 << UInt8(generator.int(0...7))
      #expect(throws: ChunkProbe.ChunkProblem.self) {
        try damaged.pages(verifyingDigests: false).get()
      }
    }
  }

  @Test func randomBytesAreErrorsAndNoCrash() throws {
    var generator = TestGenerator(seed: 15)
    let magic: [UInt8] = [0x04, 0x22, 0x4d, 0x18]
    for round in 0..<3000 {
      let length = generator.int(1...600)
      var bytes = (0..<length).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      if round % 2 == 0 { bytes = magic + bytes }
      let chunk = ChunkProbe(
        encoding: "lz4",
        stored: bytes,
        digests: [UInt8](repeating: 0, count: 32 * 16)
      )
      #expect(throws: ChunkProbe.ChunkProblem.self, "round \(round)") {
        try chunk.pages(verifyingDigests: false).get()
      }
    }
  }
}

extension TestGenerator {
  fileprivate mutating func pages(_ count: Int, compressible: Bool) -> [UInt8] {
    (0..<count).flatMap { _ in compressible ? compressiblePage() : incompressiblePage() }
  }
}
