import GRDB
import Glibc
import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

@Suite struct DeterminismTests {
  /// Chunks made in another order would make stores that cannot be compared.
  @Test(.slow) func threadCountsDoNotChangeWhatIsStored() throws {
    let directory = try TemporaryDirectory()
    var generator = TestGenerator(seed: 21)
    let path = directory.file("ram")
    try writeSparseFile(path, generator.mixedImage(pageCount: 3000))
    var contents: [[[UInt8]]] = []
    for (index, threadCount) in [1, 2, 5, 5].enumerated() {
      let storePath = directory.file("store-\(index).db")
      let input: RAMInput
      let descriptor = open(path, O_RDONLY | O_CLOEXEC)
      defer { close(descriptor) }
      // The last one is a stream.
      input = index == 3 ? .stream(fileDescriptor: descriptor, name: "ram") : .file(path: path)
      let result = try Store.openOrCreate(at: storePath).save(
        SaveRequest(input: input, name: "s"),
        control: OperationControl(threadCount: threadCount)
      )
      #expect(result.newPageCount == result.storedPageCount)
      contents.append(try storedContents(storePath))
    }
    for other in contents.dropFirst() { #expect(other == contents[0]) }
  }

  /// Chunks that still wait for their number must have it when pages are written to the index.
  @Test(.slow, arguments: [16, 64, 512])
  func pagesAreNotMixedUpWhenTheTableOfNewOnesFills(capacity: Int) throws {
    let directory = try TemporaryDirectory()
    var generator = TestGenerator(seed: UInt64(23 + capacity))
    let image = generator.mixedImage(pageCount: 3000)
    let path = directory.file("ram")
    try writeSparseFile(path, image)
    var contents: [[[UInt8]]] = []
    var newPageCount: UInt64 = 0
    for threadCount in [1, 2, 5] {
      let storePath = directory.file("store-\(threadCount).db")
      let store = try Store.openOrCreate(at: storePath)
      var control = OperationControl(threadCount: threadCount)
      control.newPageCapacity = capacity
      let first = try store.save(SaveRequest(input: .file(path: path), name: "s"), control: control)
      newPageCount = first.newPageCount
      #expect(try store.verify().isSound)
      // Without a parent all pages are looked for in the index.
      let again = try store.save(
        SaveRequest(input: .file(path: path), name: "again", parent: .none),
        control: control
      )
      #expect(again.newPageCount == 0)
      for name in ["s", "again"] {
        let output = directory.file("\(name)-\(threadCount)")
        _ = try store.restore(
          RestoreRequest(reference: SnapshotReference(name), output: .file(path: output))
        )
        #expect(try readFile(output) == image)
      }
      contents.append(try storedContents(storePath))
    }
    #expect(contents[0] == contents[1] && contents[0] == contents[2])
    #expect(newPageCount > 512)
  }

  @Test(.slow, arguments: [1, 2, 5])
  func streamAndFileGiveTheSameSnapshot(threadCount: Int) throws {
    let directory = try TemporaryDirectory()
    var generator = TestGenerator(seed: UInt64(22 + threadCount))
    var pool: [[UInt8]] = []
    let store = try Store.openOrCreate(at: directory.file("store.db"))
    let control = OperationControl(threadCount: threadCount)
    for pattern in RAMPattern.allCases {
      let path = directory.file("ram")
      let image = pattern.image(
        pageCount: generator.int(1...600),
        pool: &pool,
        using: &generator
      )
      try writeSparseFile(path, image)
      let descriptor = open(path, O_RDONLY | O_CLOEXEC)
      defer { close(descriptor) }
      let file = try store.save(
        SaveRequest(input: .file(path: path), name: "\(pattern)/file"),
        control: control
      )
      let stream = try store.save(
        SaveRequest(
          input: .stream(fileDescriptor: descriptor, name: "ram"),
          name: "\(pattern)/stream",
          parent: .none
        ),
        control: control
      )
      #expect(file.digest == stream.digest, "\(pattern)")
      #expect(stream.newPageCount == 0, "\(pattern)")
    }
  }

  /// A stream is put together in windows of 4096 pages, in two buffers that go round; extents and chunks
  /// cross their borders.
  @Test(.slow, arguments: [1, 4])
  func streamsDoNotLosePagesAtWindowBorders(threadCount: Int) throws {
    let directory = try TemporaryDirectory()
    var generator = TestGenerator(seed: 30)
    let pages = (0..<40).map { _ in generator.compressiblePage() }
    var image = [UInt8](repeating: 0, count: 14000 * Page.byteCount)
    for index in 0..<14000 where index % 4096 > 4050 || index % 4096 < 40 || generator.oneIn(50) {
      let page =
        generator.oneIn(3) ? pages.randomElement(using: &generator)! : generator.compressiblePage()
      image.replaceSubrange((index * 4096)..<((index + 1) * 4096), with: page)
    }
    let path = directory.file("ram")
    try writeSparseFile(path, image)
    let store = try Store.openOrCreate(at: directory.file("store.db"))
    _ = try store.save(SaveRequest(input: .file(path: path), name: "s"))
    let descriptor = open(directory.file("out"), O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    _ = try store.restore(
      RestoreRequest(
        reference: SnapshotReference("s"),
        output: .stream(fileDescriptor: descriptor)
      ),
      control: OperationControl(threadCount: threadCount)
    )
    // Not in #expect: it would describe megabytes.
    let isSame = try readFile(directory.file("out")) == image
    #expect(isSame)
    _ = try store.restore(
      RestoreRequest(
        reference: SnapshotReference("s"),
        output: .file(path: directory.file("file"))
      )
    )
    let isSameFile = try readFile(directory.file("file")) == image
    #expect(isSameFile)
    #expect(try fileSize(directory.file("file")).allocated < image.count / 2, "not sparse")
  }

  @Test(arguments: [1, 2, 3, 100])
  func batchesOfExtentsDoNotLoseOrRepeatAny(capacity: Int) throws {
    let directory = try TemporaryDirectory()
    var generator = TestGenerator(seed: 31)
    var pool: [[UInt8]] = []
    let image = RAMPattern.pool.image(pageCount: 300, pool: &pool, using: &generator)
    try writeSparseFile(directory.file("ram"), image)
    let storePath = directory.file("store.db")
    let store = try Store.openOrCreate(at: storePath)
    let saved = try store.save(SaveRequest(input: .file(path: directory.file("ram")), name: "s"))
    let all = try StoreProbe.extentBatches(
      storePath: storePath,
      snapshot: "s",
      capacity: .max
    )
    let batches = try StoreProbe.extentBatches(
      storePath: storePath,
      snapshot: "s",
      capacity: capacity
    )
    #expect(all.count == 1)
    #expect(batches.allSatisfy { $0.count <= capacity })
    #expect(all[0].reduce(0) { $0 + $1.pageCount } == Int(saved.storedPageCount))
    #expect(Array(batches.joined()) == all[0].sorted { $0.firstPFN < $1.firstPFN })
  }

  /// Everything that the input determines.
  private func storedContents(_ path: String) throws -> [[UInt8]] {
    try DatabaseQueue(path: path).read { database in
      try [
        "SELECT digests FROM chunk ORDER BY id", "SELECT data FROM chunk_data ORDER BY chunk_id",
        "SELECT digest FROM snapshot",
        """
        SELECT CAST(first_pfn || ' ' || page_count || ' ' || chunk_id || ' ' || first_slot AS BLOB)
          FROM ram_extent ORDER BY first_pfn
        """,
        "SELECT entries FROM page_index_block ORDER BY id",
      ].flatMap { try [UInt8].fetchBlobs(database, $0) }
    }
  }
}

extension [UInt8] {
  fileprivate static func fetchBlobs(_ database: Database, _ sql: String) throws -> [[UInt8]] {
    try Row.fetchAll(database, sql: sql).map { row in
      try row.withUnsafeData(atIndex: 0) { data in data.map { Array($0) } ?? [] }
    }
  }
}
