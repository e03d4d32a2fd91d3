import Glibc
import Testing
import VMCheckpointTestSupport

/// A save writes pages into the store's file long before it commits them, and syncs as seldom as it can.
@Suite(.serialized) struct LongTransactionTests {
  private static let pageByteCount = 4096
  /// 40 MiB, which is more than SQLite's cache holds.
  private static let ram = incompressibleRAM(10_240, seed: 1)

  private let bench: Workbench
  private let base = sampleRAM(300)

  init() throws {
    bench = try Workbench()
    try bench.save("base", base)
  }

  private func fileByteCount() -> Int {
    var status = stat()
    return stat(bench.storePath, &status) == 0 ? Int(status.st_size) : 0
  }

  /// A save of 40 MiB that is stopped when it has written half of it, and commits nothing before.
  ///
  /// One that a busy machine holds up commits what it has, so that others can write: it is made again.
  private func halfWayThroughASave() throws -> ChildProcess {
    let faults = try FaultLibrary()
    let source = try bench.write("ram", Self.ram)
    let half = fileByteCount() + (21 << 20)
    for _ in 0..<5 {
      let child = try ChildProcess(
        bench.tool.commandLine(["save", source, "--name", "x"]),
        environment: faults.environment(stopsAtStoreOffset: half)
      )
      try child.waitUntilItIsStopped()
      #expect(fileByteCount() > half - (1 << 20))
      if try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 0 {
        return child
      }
      child.send(SIGKILL)
      _ = try child.wait()
      try bench.tool.succeed("gc")
    }
    throw TestSetupError("no save came half way before its first commit")
  }

  /// At most four for the save, and one for each 32 MiB begun. Nine tenths of the pages that the second save writes
  /// were freed before. A save that a busy machine holds up for long commits more often, so that others can write:
  /// the best of some counts.
  @Test func aSaveSyncsSeldom() throws {
    let faults = try FaultLibrary()
    let source = try bench.write("ram", Self.ram)
    for (name, freed) in [("first", false), ("second", true), ("third", false)] {
      if freed { try bench.tool.succeed("delete", "first") }
      var counts: [Int] = []
      repeat {
        if !counts.isEmpty { try bench.tool.succeed("delete", name) }
        let before = faults.fileSyncCount
        let child = try ChildProcess(
          bench.tool.commandLine(["save", source, "--name", name]),
          environment: faults.environment(notesFileSyncs: true)
        )
        let outcome = try child.wait()
        try #require(outcome.succeeded, "\(outcome)")
        counts.append(faults.fileSyncCount - before)
      } while counts.last! > 4 + 2 && counts.count < 6
      #expect(counts.allSatisfy { $0 > 0 } && counts.last! <= 4 + 2, "\(name): \(counts) syncs")
    }
    #expect(
      try bench.problems(expecting: [("base", base), ("second", Self.ram), ("third", Self.ram)])
        == []
    )
  }

  @Test func readersReadWhileASaveWrites() throws {
    let child = try halfWayThroughASave()
    #expect(try bench.tool.snapshotNames() == ["base"])
    #expect(try bench.restore("base") == base)
    #expect(try bench.sql.run("PRAGMA integrity_check") == "ok")
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot") == 1)
    child.send(SIGCONT)
    let outcome = try child.wait()
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try bench.problems(expecting: [("base", base), ("x", Self.ram)]) == [])
  }

  /// What it has written is behind the database's end: nobody sees it, and gc cuts it off.
  @Test func aKilledSaveLeavesOnlyWhatGCCutsOff() throws {
    let before = fileByteCount()
    let child = try halfWayThroughASave()
    child.send(SIGKILL)
    #expect(try child.wait().ending == .signal(SIGKILL))
    #expect(fileByteCount() > before + (20 << 20))
    // Also for those who may only read: there is no journal to roll back.
    #expect(try bench.sql.run("PRAGMA query_only = ON; PRAGMA integrity_check") == "ok")
    try bench.tool.succeed("gc")
    #expect(fileByteCount() <= before + (1 << 20))
    try expectSound(bench, [("base", base)], "after a killed save")
  }

  @Test func theNextSaveUsesTheSpaceOfAKilledOne() throws {
    let child = try halfWayThroughASave()
    child.send(SIGKILL)
    #expect(try child.wait().ending == .signal(SIGKILL))
    try bench.save("x", Self.ram)
    #expect(fileByteCount() < 50 << 20)
    #expect(try bench.problems(expecting: [("base", base), ("x", Self.ram)]) == [])
  }

  @Test func aCancelledSaveLeavesTheFileAsLongAsItWas() throws {
    let before = fileByteCount()
    let child = try halfWayThroughASave()
    child.send(SIGINT)
    child.send(SIGCONT)
    let outcome = try child.wait()
    #expect(!outcome.succeeded, "\(outcome)")
    #expect(fileByteCount() <= before + (1 << 20))
    try expectSound(bench, [("base", base)], "after a cancelled save")
  }

  /// Others would not find the journal of a commit that is cut off.
  @Test(arguments: [true, false])
  func aSaveWhoseJournalIsRemovedBeforeItsCommitFails(comesBack: Bool) throws {
    let child = try halfWayThroughASave()
    unlink(bench.storePath + "-journal")
    if comesBack { try writeFile(bench.storePath + "-journal", "") }
    child.send(SIGCONT)
    let outcome = try child.wait()
    #expect(outcome.ending == .exit(74), "\(outcome)")
    try expectSound(bench, [("base", base)], "after a removed journal")
  }

  /// A reader takes the file's size for the database's. One that began beside a save, and writes after that was rolled
  /// back, must not leave a file that is shorter than its header says.
  @Test func aReaderThatWritesAfterACancelledSaveDamagesNothing() throws {
    let child = try halfWayThroughASave()
    let (ready, go) = (bench.directory.file("ready"), bench.directory.file("go"))
    let script = """
      PRAGMA secure_delete = OFF;
      BEGIN;
      SELECT count(*) FROM snapshot;
      .shell touch '\(ready)'; while [ ! -e '\(go)' ]; do sleep 0.05; done
      CREATE TABLE t (x);
      INSERT INTO t VALUES (zeroblob(400000));
      DELETE FROM t;
      COMMIT;
      """
    try writeFile(bench.directory.file("script"), script)
    let reader = try ChildProcess(
      [
        "/bin/sh", "-c", "exec sqlite3 \"$0\" <\"$1\"", bench.storePath,
        bench.directory.file("script"),
      ]
    )
    try waitUntil("the reader reads") { access(ready, F_OK) == 0 }
    child.send(SIGINT)
    child.send(SIGCONT)
    // The save does not wait for the reader, and the reader's writing, within its transaction, would not for the save.
    let saved = try child.wait()
    #expect(saved.ending != .exit(0), "\(saved)")
    try writeFile(go, "")
    let outcome = try reader.wait()
    try #require(outcome.succeeded, "\(outcome)")
    #expect(try bench.sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = 't'") == 1)
    try expectSound(bench, [("base", base)], "after a reader that wrote")
  }

  /// A journal that was cut off when it was written is none, but its bytes stay. Those behind the next one must not be
  /// taken for its continuation when that one is rolled back.
  @Test func whatADeadJournalLeftIsNotPlayedBack() throws {
    let faults = try FaultLibrary()
    let source = try bench.write("ram", Self.ram)
    let (storePath, journalPath) = (bench.storePath, bench.storePath + "-journal")
    let original = try readFile(storePath)
    func killAtTheStoresSync() throws {
      let child = try ChildProcess(
        bench.tool.commandLine(["save", source, "--name", "x"]),
        environment: faults.environment(killsAtStoreSync: true)
      )
      #expect(try child.wait().ending == .signal(SIGKILL))
    }
    try killAtTheStoresSync()
    let journalByteCount = try readFile(journalPath).count
    try #require(journalByteCount > 512)

    // A header where the next one would be, with one page after it: the second, as zeros, whose checksum is 0.
    var remains = [UInt8](repeating: 0, count: (journalByteCount + 511) / 512 * 512)
    for number: UInt32 in [0xd9d5_05f9, 0x20a1_63d7, 1, 0, 2, 512, 4096] {
      withUnsafeBytes(of: number.bigEndian) { remains.append(contentsOf: $0) }
    }
    remains += [UInt8](repeating: 0, count: 512 - 28)
    withUnsafeBytes(of: UInt32(2).bigEndian) { remains.append(contentsOf: $0) }
    remains += [UInt8](repeating: 0, count: Self.pageByteCount + 4)
    try writeFile(storePath, original)
    try writeFile(journalPath, remains)
    #expect(try bench.tool.snapshotNames() == ["base"])
    try killAtTheStoresSync()
    try #require(try readFile(journalPath).count >= journalByteCount)

    #expect(try bench.sql.run("PRAGMA integrity_check") == "ok")
    #expect(try bench.problems(expecting: [("base", base)]) == [])
  }
}
