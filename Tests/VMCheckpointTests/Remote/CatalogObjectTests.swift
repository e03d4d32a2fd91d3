import GRDB
import GRDBSQLite
import Testing
import VMCheckpoint

/// Catalogues that a stranger has written.
@Suite struct CatalogObjectTests {
  private let row = CatalogObject.Row(
    key: RemoteKey("snapshots/vm/name/00000000-0123456789abcdef0123456789abcdef")!,
    byteCount: 7,
    modifiedSeconds: 9,
    summary: RemoteSnapshotSummary(
      uuid: "u",
      name: "n\u{301}\"'",
      vm: "v",
      parent: nil,
      completedAt: "2026",
      ramByteCount: 1 << 62,
      storedPageCount: 3,
      packCount: 1,
      deviceStateCount: 0,
      overlayCount: 5,
      tags: ["k": "ü", "": ""],
      digest: "d"
    )
  )

  private func decode(_ object: [UInt8]) throws -> [CatalogObject.Row] {
    try CatalogObject.decode(object[...], title: "catalogue")
  }

  /// A catalogue whose database `sql` was run in.
  private func changed(_ sql: String) throws -> [UInt8] {
    let object = try CatalogObject.encode([row])
    let payload = object.dropFirst(88).dropLast(32)
    let queue = try DatabaseQueue()
    let bytes = try queue.writeWithoutTransaction { database in
      let memory = sqlite3_malloc64(UInt64(payload.count))!
      payload.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
      let count = sqlite3_int64(payload.count)
      sqlite3_deserialize(
        database.sqliteConnection,
        "main",
        memory.assumingMemoryBound(to: UInt8.self),
        count,
        count,
        UInt32(SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE)
      )
      try database.execute(sql: sql)
      var byteCount: sqlite3_int64 = 0
      let changed = sqlite3_serialize(database.sqliteConnection, "main", &byteCount, 0)!
      defer { sqlite3_free(changed) }
      return Array(UnsafeBufferPointer(start: changed, count: Int(byteCount)))
    }
    return SealedObject.seal(.catalog, bytes)
  }

  @Test func whatIsWrittenIsRead() throws {
    #expect(try decode(CatalogObject.encode([row])) == [row])
    #expect(try decode(CatalogObject.encode([])) == [])
    #expect(try decode(changed("SELECT 1")) == [row])
  }

  @Test(
    "a schema that could run something, or rows that cannot be, are damage",
    arguments: [
      """
      ALTER TABLE snapshot RENAME TO other;
      CREATE VIEW snapshot AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n;
      """,
      "CREATE TRIGGER t AFTER INSERT ON snapshot BEGIN SELECT 1; END",
      "CREATE TABLE other (a)",
      "ALTER TABLE snapshot ADD COLUMN more",
      "DROP TABLE snapshot",
      "UPDATE snapshot SET ram_bytes = -1",
      "UPDATE snapshot SET packs = 'many'",
      "UPDATE snapshot SET name = x'00ff'",
      "UPDATE snapshot SET manifest = '../../etc/passwd'",
      "UPDATE snapshot SET tags = '[1]'",
      "UPDATE snapshot SET tags = '{'",
    ]
  )
  func hostile(sql: String) throws {
    let object = try changed(sql)
    #expect { try decode(object) } throws: { ($0 as? VMCheckpointError)?.code == .corrupt }
  }

  @Test func bytesThatAreNoDatabaseAreDamage() throws {
    var generator = SystemRandomNumberGenerator()
    let object = try CatalogObject.encode([row])
    for length in [0, 1, 100, 512, 4096, 20_000] {
      let noise = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
      #expect(throws: VMCheckpointError.self) { try decode(SealedObject.seal(.catalog, noise)) }
    }
    for _ in 0..<300 {
      var payload = Array(object.dropFirst(88).dropLast(32))
      for _ in 0..<3 { payload[.random(in: 0..<payload.count)] = .random(in: 0...255) }
      do {
        _ = try decode(SealedObject.seal(.catalog, payload))
      } catch let error as VMCheckpointError {
        #expect(error.code == .corrupt)
      }
    }
  }
}
