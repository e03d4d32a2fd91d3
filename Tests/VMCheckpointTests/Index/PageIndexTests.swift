import Foundation
import GRDB
import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

/// The page index against a dictionary, with forged digests.
@Suite struct PageIndexTests {
  @Test(.slow, arguments: 1...6)
  func lookupsDoNotLosePagesAcrossRunsAndMerges(seed: Int) throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: UInt64(seed))
    for _ in 0..<generator.int(2...9) {
      try fixture.appendRun(pageCount: generator.int(1...2600), using: &generator)
      if generator.oneIn(2) { try fixture.index.mergeRunsOfLikeSize() }
      try fixture.checkLookups(using: &generator)
    }
  }

  @Test func runsOfLikeSizeStayFewSoThatLookupsDo() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 1)
    for _ in 0..<40 {
      let pageCount = generator.oneIn(3) ? generator.int(1...9) : generator.int(400...1500)
      try fixture.appendRun(pageCount: pageCount, using: &generator)
      try fixture.index.mergeRunsOfLikeSize()
      let sizes = try fixture.index.runSizes()
      let byLevel = Dictionary(grouping: sizes) { PageIndexProbe.level(entryCount: $0) }
      #expect(byLevel.values.allSatisfy { $0.count < PageIndexProbe.fanIn }, "runs \(sizes)")
      #expect(sizes.reduce(0, +) == UInt64(fixture.known.count))
    }
    // What merges replaced is gone.
    #expect(try fixture.integer("SELECT count(*) FROM page_index_run WHERE state <> 'active'") == 0)
    #expect(
      try fixture.integer("SELECT sum(length(entries)) / 16 FROM page_index_block")
        == fixture.known.count
    )
    try fixture.checkLookups(using: &generator)
  }

  @Test func levelsOfRunsGrowByFour() {
    let sizes: [UInt64] = [1, 250, 251, 1000, 1001, 4000, 4001, 16_000, 5_000_000]
    #expect(sizes.map { PageIndexProbe.level(entryCount: $0) } == [0, 0, 1, 1, 2, 2, 3, 3, 8])
  }

  /// Filters are a hint: without them, or with less memory than they need, lookups are only slower.
  @Test func pagesAreFoundWhateverBecomesOfTheFilters() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 8)
    // More than one section, and a last one that is not full.
    for pageCount in [13_500, 700, 90] {
      try fixture.appendRun(pageCount: pageCount, using: &generator)
    }
    for byteCount in [0, 1, 64, 900, 5000, 13_000, 20_000, 1 << 20] {
      try fixture.checkLookups(filterMemoryByteCount: byteCount, using: &generator)
    }
    for damage in [
      "UPDATE page_index_filter SET bits = cast(replace(hex(zeroblob(length(bits) / 2)), '00', "
        + "x'ffff') AS BLOB)",
      "DELETE FROM page_index_filter WHERE id % 16777216 = 0", "DELETE FROM page_index_filter",
    ] {
      try fixture.execute("PRAGMA ignore_check_constraints = ON; \(damage)")
      try fixture.checkLookups(using: &generator)
    }
  }

  /// One absent page in 200 or so may cost a block read; with half or a quarter of the memory that
  /// filters need, more.
  @Test(arguments: [(1, 0.01), (2, 0.15), (4, 0.6)])
  func filtersRuleOutPagesThatAreNotThere(part: Int, limit: Double) throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 9)
    let entries = (0..<12_000).map { _ in
      PageIndexProbe.Entry(prefix: generator.next(), chunkID: 1, slot: 0)
    }
    try fixture.index.append(entries)
    let byteCount = 12_000 / 40 * 64 / part
    func wrongShare(_ prefixes: [UInt64]) throws -> Double {
      let counts = try fixture.index.possibleRunCounts(
        of: prefixes,
        filterMemoryByteCount: byteCount
      )
      return Double(counts.reduce(0, +)) / Double(counts.count)
    }
    #expect(try wrongShare(entries.map(\.prefix)) == 1)
    #expect(try wrongShare((0..<40_000).map { _ in generator.next() }) < limit)
  }

  /// A guest can grind digests with equal prefixes; they may fill several blocks.
  @Test(.slow) func pagesWithEqualPrefixesAreFoundAcrossBlockBorders() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 2)
    try fixture.appendRun(pageCount: 990, prefix: 7, using: &generator)
    try fixture.appendRun(pageCount: 2500, prefix: 9, using: &generator)
    try fixture.appendRun(pageCount: 30, prefix: 8, using: &generator)
    try fixture.checkLookups(using: &generator)
    try fixture.index.compact(droppingChunks: [])
    #expect(try fixture.index.runSizes() == [3520])
    try fixture.checkLookups(using: &generator)
  }

  @Test func prefixesAtTheEndsOfTheRangeAreFound() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 3)
    try fixture.appendRun(pageCount: 20, prefix: 0, using: &generator)
    try fixture.appendRun(pageCount: 20, prefix: .max, using: &generator)
    try fixture.checkLookups(using: &generator)
    try fixture.index.mergeRunsOfLikeSize()
    try fixture.checkLookups(using: &generator)
  }

  @Test func entriesOfDeletedChunksAreNotFound() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 4)
    try fixture.appendRun(pageCount: 500, using: &generator)
    let dead = Set(fixture.known.values.map(\.chunkID).filter { $0 % 3 == 0 })
    try fixture.deleteChunks(dead)
    try fixture.checkLookups(using: &generator)
    try fixture.index.compact(droppingChunks: dead)
    #expect(try fixture.index.runSizes() == [UInt64(fixture.known.count)])
    try fixture.checkLookups(using: &generator)
  }

  /// After a deletion chunk numbers are given out anew: stale entries then name other pages.
  @Test func staleEntriesDoNotFindPagesThatTookTheirPlace() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 5)
    try fixture.appendRun(pageCount: 160, using: &generator)
    let stale = Array(fixture.known.keys)
    try fixture.deleteChunks(Set(fixture.known.values.map(\.chunkID)))
    fixture.reuseChunkNumbers()
    try fixture.appendRun(pageCount: 160, using: &generator)
    try fixture.checkLookups(using: &generator)
    #expect(try fixture.index.locations(of: stale).allSatisfy { $0 == nil })
  }

  @Test func runsThatAMergeLeftUnfinishedAreNeitherUsedNorKept() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 6)
    try fixture.appendRun(pageCount: 1500, using: &generator)
    try fixture.index.appendUnfinished(
      (0..<2500).map { PageIndexProbe.Entry(prefix: UInt64($0), chunkID: 1, slot: 0) }
    )
    #expect(try fixture.index.runSizes() == [1500])
    try fixture.checkLookups(using: &generator)
    #expect(try fixture.integer("SELECT count(*) FROM page_index_block") > 2)
    try fixture.index.removeUnfinishedRuns()
    #expect(try fixture.integer("SELECT count(*) FROM page_index_run") == 1)
    #expect(
      try fixture.integer("SELECT sum(length(entries)) / 16 FROM page_index_block") == 1500
    )
    try fixture.checkLookups(using: &generator)
  }

  @Test func aRunThatLosesAllItsEntriesGoesAway() throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: 7)
    try fixture.appendRun(pageCount: 100, using: &generator)
    let dead = Set(fixture.known.values.map(\.chunkID))
    try fixture.deleteChunks(dead)
    try fixture.index.compact(droppingChunks: dead)
    #expect(try fixture.index.runSizes().isEmpty)
    #expect(try fixture.integer("SELECT count(*) FROM page_index_block") == 0)
  }

  @Test(arguments: [1, 2, 8, 64])
  func aFullTableOfNewPagesDoesNotForgetThem(capacity: Int) throws {
    let fixture = try IndexFixture()
    var generator = TestGenerator(seed: UInt64(capacity))
    let distinct = (0..<200).map { _ in generator.digest() }
    let digests = (0..<1000).map { _ in distinct.randomElement(using: &generator)! }
    let used = Set(digests)
    let (locations, newPageCount) = try fixture.index.store(
      digests,
      newPageCapacity: capacity,
      firstChunkID: 1,
      insertChunk: fixture.insertChunk
    )
    #expect(newPageCount == UInt64(used.count))
    var places: [[UInt8]: PageIndexProbe.Entry] = [:]
    for (digest, location) in zip(digests, locations) {
      #expect(places.updateValue(location, forKey: digest) ?? location == location)
    }
    #expect(Set(places.values).count == used.count, "two pages in one place")
  }
}

/// A store whose chunks have forged digests and a byte of data, because saves rely on no chunk
/// that has none.
private final class IndexFixture {
  let index: PageIndexProbe
  private(set) var known: [[UInt8]: PageIndexProbe.Entry] = [:]
  private let directory: TemporaryDirectory
  private let queue: DatabaseQueue
  private var nextChunkID: Int64 = 1

  init() throws {
    directory = try TemporaryDirectory()
    let path = directory.file("store.db")
    _ = try Store.openOrCreate(at: path)
    index = try PageIndexProbe(path: path)
    queue = try DatabaseQueue(path: path)
    try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = OFF") }
  }

  /// - Parameter prefix: The first eight bytes of all the run's digests; `nil`: random.
  func appendRun(
    pageCount: Int,
    prefix: UInt64? = nil,
    using generator: inout TestGenerator
  ) throws {
    var entries: [PageIndexProbe.Entry] = []
    var chunk: [[UInt8]] = []
    for page in 1...pageCount {
      let digest = generator.digest(prefix: prefix)
      let entry = PageIndexProbe.Entry(
        prefix: digest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
        chunkID: nextChunkID,
        slot: chunk.count
      )
      chunk.append(digest)
      entries.append(entry)
      known[digest] = entry
      if chunk.count == 16 || page == pageCount {
        try insertChunk(nextChunkID, Array(chunk.joined()))
        nextChunkID += 1
        chunk = []
      }
    }
    try index.append(entries)
  }

  func insertChunk(_ id: Int64, _ digests: [UInt8]) throws {
    try queue.write { database in
      try database.execute(
        sql: """
          INSERT OR REPLACE INTO chunk
            (id, page_count, stored_bytes, encoding, digests, fingerprints)
          VALUES (?, ?, 1, 'raw', ?, zeroblob(?))
          """,
        arguments: [
          id, digests.count / 32, digests.withUnsafeBytes { Data($0) }, digests.count / 4,
        ]
      )
      try database.execute(
        sql: "INSERT OR REPLACE INTO chunk_data (chunk_id, data) VALUES (?, x'00')",
        arguments: [id]
      )
    }
  }

  func deleteChunks(_ ids: Set<Int64>) throws {
    try queue.write { database in
      for id in ids {
        try database.execute(sql: "DELETE FROM chunk_data WHERE chunk_id = ?", arguments: [id])
        try database.execute(sql: "DELETE FROM chunk WHERE id = ?", arguments: [id])
      }
    }
    known = known.filter { !ids.contains($0.value.chunkID) }
  }

  func reuseChunkNumbers() { nextChunkID = 1 }

  func execute(_ sql: String) throws {
    try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
  }

  func integer(_ sql: String) throws -> Int {
    try queue.read { try Int.fetchOne($0, sql: sql) ?? 0 }
  }

  /// Every page that is there is found where it is, and others are not.
  func checkLookups(
    filterMemoryByteCount: Int? = nil,
    using generator: inout TestGenerator
  ) throws {
    let digests = Array(known.keys)
    let found = try index.locations(of: digests, filterMemoryByteCount: filterMemoryByteCount)
    let wrong = zip(digests, found).filter { known[$0] != $1 }.count
    #expect(wrong == 0, "\(wrong) of \(digests.count) pages are not found where they are")
    let strangers =
      (0..<50).map { _ in generator.digest() }
      + digests.prefix(50).map {
        $0.dropLast() + [$0[31] ^ 1]
      }
    #expect(try index.locations(of: strangers).allSatisfy { $0 == nil })
  }
}

extension TestGenerator {
  fileprivate mutating func digest(prefix: UInt64? = nil) -> [UInt8] {
    let words = [prefix ?? next(), next(), next(), next()]
    return words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) }
    }
  }
}
