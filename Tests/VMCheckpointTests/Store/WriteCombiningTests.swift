import Foundation
import GRDB
import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Writes that are held back must not be missed by anybody.
@Suite struct WriteCombiningTests {
  /// A small cache that spills makes SQLite write in the middle of transactions, and read that back.
  @Test(.slow, arguments: 1...8)
  func readersNeverMissWhatIsHeld(seed: Int) throws {
    let directory = try TemporaryDirectory()
    var generator = TestGenerator(seed: UInt64(seed))
    let plain = try Self.queue(directory.file("plain.db"))
    let combining = try Self.queue(WriteCombiningVFS.name(forPath: directory.file("combined.db")))
    let other = try DatabaseQueue(path: directory.file("combined.db"))
    var rowCount = 0
    for _ in 0..<60 {
      let isCommitted = !generator.oneIn(4)
      let sql = (0..<generator.int(1...40)).map { _ -> String in
        rowCount += 1
        switch generator.int(0...9) {
        case 0: return "DELETE FROM t WHERE id % 7 = \(generator.int(0...6));"
        case 1: return "UPDATE t SET data = substr(data, 2) WHERE id % 5 = \(generator.int(0...4));"
        case 2: return "SELECT sum(length(data)) FROM t;"
        default:
          let byteCount = generator.int(0...70_000)
          return
            "INSERT INTO t VALUES (\(rowCount), CAST(printf('%.\(byteCount)c', '\(rowCount % 10)') AS BLOB));"
        }
      }
      let maintenance = generator.oneIn(8) ? "PRAGMA incremental_vacuum(20);" : ""
      for queue in [plain, combining] {
        try queue.writeWithoutTransaction { database in
          try database.execute(
            sql: "BEGIN; \(sql.joined()) \(isCommitted ? "COMMIT" : "ROLLBACK"); \(maintenance)"
          )
        }
      }
      let expected = try Self.contents(plain)
      #expect(try Self.contents(other) == expected)
      #expect(try Self.contents(combining) == expected)
    }
    try combining.writeWithoutTransaction { try $0.execute(sql: "VACUUM") }
    try combining.close()
    #expect(try Self.contents(other) == Self.contents(plain))
    #expect(
      try other.read { try String.fetchOne($0, sql: "PRAGMA integrity_check") } == "ok"
    )
  }

  @Test func aCommitMakesFewWrites() throws {
    let directory = try TemporaryDirectory()
    func writeCount(_ path: String) throws -> Int {
      try Self.queue(path).writeWithoutTransaction { database in
        try database.execute(sql: "PRAGMA cache_size = 10000; PRAGMA cache_spill = OFF")
        try database.execute(sql: "BEGIN; INSERT INTO t VALUES (1, randomblob(16000000))")
        let before = try? Self.writeCallCount()
        try database.execute(sql: "COMMIT")
        return try Self.writeCallCount() - #require(before)
      }
    }
    let plain = try writeCount(directory.file("plain.db"))
    let combined = try writeCount(WriteCombiningVFS.name(forPath: directory.file("combined.db")))
    #expect(plain > 3900)
    // 245 of 64 KiB, and the journal's.
    #expect(combined < 300)
  }

  /// This thread's calls that write.
  private static func writeCallCount() throws -> Int {
    let text = try String(contentsOfFile: "/proc/thread-self/io", encoding: .utf8)
    let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("syscw:") })
    return try #require(Int(line.dropFirst(7)))
  }

  /// A file's name goes through a URI.
  @Test(arguments: ["a b", "50%25", "what?vfs=unix", "#1", "ünïcode", "a&b=c;d", "%", "//x"])
  func anyNameOpensTheFileOfThatName(name: String) throws {
    let directory = try TemporaryDirectory()
    let path = directory.file(name)
    let queue = try DatabaseQueue(path: WriteCombiningVFS.name(forPath: path))
    try queue.write { try $0.execute(sql: "CREATE TABLE t (x); INSERT INTO t VALUES (7)") }
    try queue.close()
    #expect(access(path, F_OK) == 0)
    #expect(
      try DatabaseQueue(path: path).read { try Int.fetchOne($0, sql: "SELECT x FROM t") } == 7
    )
  }

  private static func queue(_ path: String) throws -> DatabaseQueue {
    var configuration = Configuration()
    configuration.prepareDatabase { database in
      try database.execute(
        sql: """
          PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;
          PRAGMA journal_mode = TRUNCATE; PRAGMA cache_size = 10; PRAGMA cache_spill = 5;
          CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, data BLOB);
          """
      )
    }
    return try DatabaseQueue(path: path, configuration: configuration)
  }

  private static func contents(_ queue: DatabaseQueue) throws -> [String] {
    try queue.read {
      try String.fetchAll(
        $0,
        sql: "SELECT id || ' ' || length(data) || ' ' || hex(substr(data, -3)) FROM t ORDER BY id"
      )
    }
  }
}
