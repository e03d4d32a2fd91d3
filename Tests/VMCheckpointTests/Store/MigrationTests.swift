import GRDB
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct MigrationTests {
  private let directory: TemporaryDirectory
  private let path: String

  init() throws {
    directory = try TemporaryDirectory()
    path = directory.file("store.db")
  }

  @Test func anEmptyFileBecomesAStore() throws {
    try StoreProbe.migrate(path: path, steps: [])
    #expect(try integer("PRAGMA user_version") == 1)
    #expect(try Store.open(at: path).snapshots().isEmpty)
  }

  @Test func laterStepsRunOnceAndInOrder() throws {
    _ = try Store.openOrCreate(at: path)
    let steps: [(version: Int32, sql: String)] = [
      (2, "CREATE TABLE step (n INTEGER); INSERT INTO step VALUES (2)"),
      (3, "INSERT INTO step VALUES (3)"),
    ]
    try StoreProbe.migrate(path: path, steps: Array(steps.prefix(1)))
    #expect(try integer("PRAGMA user_version") == 2)
    for _ in 0..<2 { try StoreProbe.migrate(path: path, steps: steps) }
    #expect(try integer("PRAGMA user_version") == 3)
    #expect(try integer("SELECT sum(n) FROM step") == 5)
    #expect(try integer("SELECT count(*) FROM store") == 1)
    #expect(try integer("PRAGMA application_id") == 0x564D_434B)
  }

  @Test func aStepThatFailsLeavesTheOldVersion() throws {
    _ = try Store.openOrCreate(at: path)
    #expect(throws: (any Error).self) {
      try StoreProbe.migrate(
        path: path,
        steps: [(2, "CREATE TABLE step (n INTEGER); INSERT INTO missing VALUES (1)")]
      )
    }
    #expect(try integer("PRAGMA user_version") == 1)
    #expect(try integer("SELECT count(*) FROM sqlite_schema WHERE name = 'step'") == 0)
    _ = try Store.open(at: path)
  }

  @Test func aStoreOfANewerVersionIsRefused() throws {
    _ = try Store.openOrCreate(at: path)
    try StoreProbe.migrate(path: path, steps: [(2, "SELECT 1")])
    let error = #expect(throws: VMCheckpointError.self) { try Store.open(at: path) }
    #expect(
      error?.message == "store \"\(path)\" has format version 2, and this vmckpt knows up to 1"
    )
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

  private func integer(_ sql: String) throws -> Int {
    try DatabaseQueue(path: path).read { try Int.fetchOne($0, sql: sql) ?? 0 }
  }
}
