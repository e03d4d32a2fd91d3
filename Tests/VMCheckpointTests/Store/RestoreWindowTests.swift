import GRDB
import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

/// Restores to a file go through windows. Small ones make every case come up in small images.
@Suite struct RestoreWindowTests {
  @Test(.slow, arguments: 1...10)
  func pagesAreNotLostOrMixedUpBetweenWindows(seed: Int) throws {
    var generator = TestGenerator(seed: UInt64(seed) * 977)
    let directory = try TemporaryDirectory()
    let store = try Store.openOrCreate(at: directory.file("store.db"))
    var pool: [[UInt8]] = []
    for (index, pattern) in RAMPattern.allCases.enumerated() {
      let layout = try generator.layout(pageCount: generator.int(1...900), inOrder: false)
      let flat = layout.clearingGaps(
        of: pattern.image(
          pageCount: Int(layout.fileByteCount) / Page.byteCount,
          pool: &pool,
          using: &generator
        )
      )
      let (ram, name) = (directory.file("ram-\(index)"), "s\(index)")
      try writeSparseFile(ram, flat)
      _ = try store.save(
        SaveRequest(input: .file(path: ram), layout: .regions(layout), name: name)
      )
      let (pageCapacity, count) = (generator.int(16...48), generator.int(1...4))
      let restored = directory.file("restored-\(index)")
      _ = try StoreProbe.restore(
        name,
        of: store,
        to: restored,
        windowPageCapacity: pageCapacity,
        windowCount: count,
        threadCount: generator.int(1...4)
      )
      // Not in #expect: it would describe megabytes.
      let isSame = try readFile(restored) == flat
      #expect(isSame, "seed \(seed), \(pattern), \(count) windows of \(pageCapacity) pages")
    }
  }

  @Test(arguments: [1, 3])
  func chunksAreNotDecodedAgainForEveryWindow(windowCount: Int) throws {
    var generator = TestGenerator(seed: 5)
    let directory = try TemporaryDirectory()
    let store = try Store.openOrCreate(at: directory.file("store.db"))
    // Every page comes twice, far from each other and in another order.
    var pages = (0..<400).map { _ in generator.compressiblePage() }
    var flat = Array(pages.joined())
    pages.shuffle(using: &generator)
    flat += pages.joined()
    try writeFile(directory.file("ram"), flat)
    _ = try store.save(SaveRequest(input: .file(path: directory.file("ram")), name: "s"))
    let decodedByteCount = try StoreProbe.restore(
      "s",
      of: store,
      to: directory.file("restored"),
      windowPageCapacity: 32,
      windowCount: windowCount,
      threadCount: 2
    )
    #expect(decodedByteCount == UInt64(400 * Page.byteCount))
    let isSame = try readFile(directory.file("restored")) == flat
    #expect(isSame)
  }

  @Test func pageThatIsEverywhereIsNotWrittenOneByOne() throws {
    let directory = try TemporaryDirectory()
    let store = try Store.openOrCreate(at: directory.file("store.db"))
    let flat = [UInt8](repeating: 0x5A, count: 2000 * Page.byteCount)
    try writeFile(directory.file("ram"), flat)
    _ = try store.save(SaveRequest(input: .file(path: directory.file("ram")), name: "s"))
    let decodedByteCount = try StoreProbe.restore(
      "s",
      of: store,
      to: directory.file("restored"),
      windowPageCapacity: 100,
      windowCount: 2,
      threadCount: 2
    )
    // Twice or more means that windows took what would be written on its own otherwise.
    #expect(decodedByteCount > UInt64(Page.byteCount))
    #expect(decodedByteCount <= UInt64(20 * Page.byteCount))
    let isSame = try readFile(directory.file("restored")) == flat
    #expect(isSame)
  }
}
