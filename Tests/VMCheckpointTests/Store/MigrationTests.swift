import Foundation
import GRDB
import Testing
import VMCheckpoint
import VMCheckpointProbes
import VMCheckpointTestSupport

@Suite struct MigrationTests {
  private let directory: TemporaryDirectory
  private let path: String

  init() throws {
    directory = try TemporaryDirectory()
    path = directory.file("store.db")
  }

  private typealias Step = (version: Int32, sql: String)

  /// As a later version may change the format.
  private static let steps: [Step] = [
    (2, "CREATE TABLE step (n INTEGER) STRICT; INSERT INTO step VALUES (2)"),
    (3, "ALTER TABLE store ADD COLUMN note TEXT; INSERT INTO step VALUES (3)"),
  ]

  /// A copy of a store that version 1 of the format made: `sampleRAM(64, seed: 7)` with overlays and a device
  /// state, and its child. It is never made anew: stores of this version have to open for ever.
  private func copyOldStore() throws {
    let fixture = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "Fixtures/version-1.store").path
    try FileManager.default.copyItem(atPath: fixture, toPath: path)
  }

  @Test func aStoreOfVersion1StaysReadable() throws {
    try copyOldStore()
    let store = try Store.open(at: path)
    #expect(try store.snapshots().map(\.name) == ["base", "child"])
    #expect(try store.verify().problems.isEmpty)
    for (name, seed) in [("base", UInt64(7)), ("child", 8)] {
      let restored = directory.file(name)
      _ = try store.restore(
        RestoreRequest(
          reference: SnapshotReference(name),
          output: .file(path: restored),
          overlays: .omit
        )
      )
      #expect(Array(try Data(contentsOf: URL(filePath: restored))) == sampleRAM(64, seed: seed))
    }
  }

  @Test func aWriterBringsAnOlderStoreUp() throws {
    try copyOldStore()
    try StoreProbe.open(path: path, for: .writing, steps: Self.steps)
    #expect(try integer("PRAGMA user_version") == 3)
    #expect(try integer("SELECT sum(n) FROM step") == 5)
    #expect(try integer("SELECT count(*) FROM snapshot") == 2)
    // Neither runs again.
    try StoreProbe.open(path: path, for: .writing, steps: Self.steps)
    try StoreProbe.open(path: path, for: .reading, steps: Self.steps)
    #expect(try integer("SELECT sum(n) FROM step") == 5)
    #expect(try integer("PRAGMA application_id") == 0x564D_434B)
  }

  @Test func aReaderLeavesAnOlderStoreAloneAndSaysWhatToDo() throws {
    try copyOldStore()
    let error = #expect(throws: VMCheckpointError.self) {
      try StoreProbe.open(path: path, for: .reading, steps: Self.steps)
    }
    #expect(error?.code == .unavailable)
    #expect(
      error?.message
        == "store \"\(path)\" has format version 1, and this vmckpt reads version 3"
    )
    #expect(error?.hint?.contains("vmckpt gc") == true)
    #expect(try integer("PRAGMA user_version") == 1)
  }

  @Test(arguments: [
    // Fails in its second step.
    (2, "CREATE TABLE other (n INTEGER) STRICT; INSERT INTO missing VALUES (1)"),
    // Leaves a schema that is not that of a new store: an index that the store has already.
    (2, "CREATE TABLE IF NOT EXISTS step (n INTEGER, extra TEXT) STRICT"),
  ])
  func aStepThatFailsLeavesTheStoreAsItWas(version: Int32, sql: String) throws {
    try copyOldStore()
    if sql.contains("IF NOT EXISTS") { try execute("CREATE TABLE step (n INTEGER) STRICT") }
    let before = try schema()
    #expect(throws: VMCheckpointError.self) {
      try StoreProbe.open(
        path: path,
        for: .writing,
        steps: [(2, "CREATE TABLE first (n INTEGER) STRICT"), (3, sql)]
      )
    }
    #expect(try integer("PRAGMA user_version") == 1)
    #expect(try schema() == before)
    #expect(try Store.open(at: path).verify().problems.isEmpty)
  }

  @Test func writersThatComeTogetherBringAStoreUpOnce() throws {
    for round in 0..<5 {
      let path = directory.file("old-\(round).db")
      try copyOldStore()
      try FileManager.default.moveItem(atPath: self.path, toPath: path)
      let group = (0..<4).map { _ in
        ThreadResult {
          Result { try StoreProbe.open(path: path, for: .writing, steps: Self.steps) }
        }
      }
      for thread in group { try thread.wait().get() }
      let sum = try DatabaseQueue(path: path).read {
        try Int.fetchOne($0, sql: "SELECT sum(n) FROM step")
      }
      #expect(sum == 5)
    }
  }

  @Test func aStoreOfANewerVersionIsRefused() throws {
    _ = try Store.openOrCreate(at: path)
    try StoreProbe.open(path: path, for: .writing, steps: [(2, "SELECT 1")])
    for purpose in [StorePurpose.reading, .writing] {
      let error = #expect(throws: VMCheckpointError.self) { try Store.open(at: path, for: purpose) }
      #expect(
        error?.message == "store \"\(path)\" has format version 2, and this vmckpt knows up to 1"
      )
    }
  }

  @Test func aWriterWhoseStoreAnotherBroughtUpStops() throws {
    try copyOldStore()
    let store = try Store.open(at: path)
    try StoreProbe.open(path: path, for: .writing, steps: Self.steps)
    let error = #expect(throws: VMCheckpointError.self) {
      try store.delete([SnapshotReference("child")])
    }
    #expect(error?.message.contains("has format version 3") == true)
    #expect(try integer("SELECT count(*) FROM snapshot") == 2)
  }

  @Test func processesThatCreateAStoreTogetherMakeOne() throws {
    for round in 0..<20 {
      let path = directory.file("store-\(round).db")
      let group = (0..<4).map { _ in
        ThreadResult { Result { try Store.openOrCreate(at: path).statistics().uuid } }
      }
      let uuids = try group.map { try $0.wait().get() }
      #expect(Set(uuids).count == 1)
    }
  }

  private func execute(_ sql: String) throws {
    try DatabaseQueue(path: path).write { try $0.execute(sql: sql) }
  }

  private func schema() throws -> [String] {
    try DatabaseQueue(path: path).read {
      try String.fetchAll(
        $0,
        sql: "SELECT name || ifnull(sql, '') FROM sqlite_schema ORDER BY name"
      )
    }
  }

  private func integer(_ sql: String) throws -> Int {
    try DatabaseQueue(path: path).read { try Int.fetchOne($0, sql: sql) ?? 0 }
  }
}
