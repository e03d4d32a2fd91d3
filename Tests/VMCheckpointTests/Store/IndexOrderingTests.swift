import GRDB
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct IndexOrderingTests {
  /// Killed there, a save would leave entries for chunks that are not, or are another save's later.
  @Test func theIndexNeverNamesAChunkThatIsNotWritten() throws {
    let directory = try TemporaryDirectory()
    let storePath = directory.file("store.db")
    var generator = TestGenerator(seed: 40)
    // Zero pages between them, so that the windows' ends are not the ends of chunks.
    let pageCount = 2000
    let ram = (0..<pageCount).flatMap { index in
      index % 50 == 0 ? [UInt8](repeating: 0, count: Page.byteCount) : generator.compressiblePage()
    }
    let overlays = try (0..<1000).map { index in
      let contents = try #require(PageContents(generator.compressiblePage()))
      return OverlayRecord(
        overlay: Overlay(
          pfn: .at(UInt64(index)),
          parameters: .vpAssist(contents),
          vp: UInt32(index)
        )
      )
    }
    let store = try Store.openOrCreate(at: storePath)
    let pipe = try ChildPipe()
    let input = RAMInput.stream(fileDescriptor: pipe.reader, name: "pipe")
    let save = ThreadResult {
      Result {
        // Filled while a chunk is begun: in the middle of RAM, and of the overlays' contents.
        var control = OperationControl(threadCount: 2)
        control.newPageCapacity = 32
        return try store.save(
          SaveRequest(
            input: input,
            name: "s",
            overlays: OverlayDocument(guestOSID: nil, records: overlays)
          ),
          control: control
        )
      }
    }
    let reader = try DatabaseQueue(path: storePath, configuration: .waiting)
    func look() throws -> (entryCount: Int, isComplete: Bool) {
      try reader.read { database in
        let entries = try Self.chunkIDs(ofEntriesIn: database)
        let lastChunkID = try Int64.fetchOne(database, sql: "SELECT max(id) FROM chunk") ?? 0
        try #require(entries.allSatisfy { $0 <= lastChunkID })
        let completeCount = try Int.fetchOne(
          database,
          sql: "SELECT count(*) FROM snapshot WHERE state = 'complete'"
        )
        return (entries.count, completeCount ?? 0 > 0)
      }
    }
    // The save commits what it has whenever its source pauses, wherever it is in a chunk then. Each
    // part fills another of its windows.
    for part in 0..<5 {
      let before = try look().entryCount
      try pipe.write(Array(ram[(part * 300 * Page.byteCount)...].prefix(300 * Page.byteCount)))
      try waitUntil("more entries are there") { try look().entryCount > before }
    }
    try pipe.write(Array(ram[(5 * 300 * Page.byteCount)...]))
    pipe.closeWriter()
    try waitUntil("the save is complete") { try look().isComplete }
    #expect(try save.wait().get().newPageCount == UInt64(pageCount - pageCount / 50 + 1000))
    #expect(try store.verify().isSound)
  }

  /// The chunks that the page index's entries name, of all runs.
  private static func chunkIDs(ofEntriesIn database: Database) throws -> [Int64] {
    try Row.fetchAll(database, sql: "SELECT entries FROM page_index_block").flatMap { row in
      try row.withUnsafeData(atIndex: 0) { data in
        let bytes = data.map { Array($0) } ?? []
        return stride(from: 8, to: bytes.count, by: 16).map { start in
          bytes[start..<(start + 8)].reduce(0) { $0 << 8 | Int64($1) } >> 4
        }
      }
    }
  }
}

extension Configuration {
  /// Waits for a commit that is under way.
  fileprivate static var waiting: Configuration {
    var configuration = Configuration()
    configuration.readonly = true
    configuration.busyMode = .timeout(300)
    return configuration
  }
}
