import GRDB
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct IndexOrderingTests {
  /// Killed there, a save would leave entries for chunks that are not, or are another save's later.
  @Test func theIndexNeverNamesAChunkThatIsNotWritten() throws {
    let directory = try TemporaryDirectory()
    let (ram, storePath) = (directory.file("ram"), directory.file("store.db"))
    var generator = TestGenerator(seed: 40)
    try writeFile(ram, (0..<1000).flatMap { _ in generator.compressiblePage() })
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
    let save = ThreadResult {
      Result {
        // Filled while a chunk is begun: in the middle of RAM, and of the overlays' contents.
        var control = OperationControl(threadCount: 2)
        control.newPageCapacity = 32
        return try store.save(
          SaveRequest(
            input: .file(path: ram),
            name: "s",
            overlays: OverlayDocument(guestOSID: nil, records: overlays)
          ),
          control: control
        )
      }
    }
    let reader = try DatabaseQueue(path: storePath, configuration: .waiting)
    var (seenEntryCounts, isComplete) = (Set<Int>(), false)
    while !isComplete {
      let (entries, lastChunkID, completeCount) = try reader.read { database in
        (
          try Self.chunkIDs(ofEntriesIn: database),
          try Int64.fetchOne(database, sql: "SELECT max(id) FROM chunk") ?? 0,
          try Int.fetchOne(
            database,
            sql: "SELECT count(*) FROM snapshot WHERE state = 'complete'"
          ) ?? 0
        )
      }
      try #require(entries.allSatisfy { $0 <= lastChunkID })
      seenEntryCounts.insert(entries.count)
      isComplete = completeCount > 0
    }
    #expect(try save.wait().get().newPageCount == 2000)
    // Otherwise the save was not looked at while it ran.
    #expect(seenEntryCounts.count > 4, "\(seenEntryCounts)")
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
    configuration.busyMode = .timeout(60)
    return configuration
  }
}
