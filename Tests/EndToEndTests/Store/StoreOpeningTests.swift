import Glibc
import Testing
import VMCheckpointTestSupport

/// What is no store, or not ours to read, is refused in its own words and stays as it is.
@Suite struct StoreOpeningTests {
  private let bench: Workbench
  private var path: String { bench.storePath }

  init() throws { bench = try Workbench() }

  /// Every verb that opens a store must say the same.
  private func expectRefused(
    _ code: Int32,
    _ message: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = try? readFile(path)
    for arguments in [
      ["list"], ["stats"], ["show", "latest"], ["verify"], ["gc"], ["delete", "a"],
      ["restore", "a", "-o", bench.directory.file("out")], ["tag", "a", "k=v"], ["diff", "a", "b"],
    ] {
      expectFailure(
        try bench.tool.start(arguments).wait(),
        code,
        message,
        sourceLocation: sourceLocation
      )
    }
    #expect(try before == readFile(path), sourceLocation: sourceLocation)
    #expect(!exists(bench.directory.file("out")), sourceLocation: sourceLocation)
  }

  private func expectSaveRefused(_ code: Int32, _ message: String) throws {
    let before = try readFile(path)
    let ram = try bench.write("a.ram", sampleRAM(4))
    expectFailure(try bench.tool.run("save", ram), code, message)
    #expect(try readFile(path) == before)
  }

  @Test func aForeignDatabaseIsNotTakenForAStore() throws {
    try bench.sql.run("CREATE TABLE t (x)")
    let message =
      "\"\(path)\" is not a vmckpt store: it is another program's SQLite database; "
      + "give the path of a store with --store"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
  }

  @Test func aStoreOfANewerFormatIsNotTouched() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run("PRAGMA user_version = 2")
    let message =
      "store \"\(path)\" has format version 2, and this vmckpt knows up to 1; "
      + "use the vmckpt that wrote it, or a newer one"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
  }

  /// Its extents have no checksums, so nothing could prove its pages.
  @Test(arguments: [1, 2])
  func aStoreOfADevelopmentVersionIsRefusedByName(version: Int) throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run(
      "ALTER TABLE ram_extent DROP COLUMN checksum; PRAGMA user_version = \(version)"
    )
    let message =
      "store \"\(path)\" was made by a development version of vmckpt: its extents have no checksums; "
      + "restore its snapshots with the vmckpt that made it, and save them again with this one"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
    let failure = try ExtensionShell(path).failure("SELECT hex(page_data('a', 0));")
    #expect(failure.contains("development version"), "\(failure)")
  }

  @Test func aStoreWithoutATableOfFeaturesIsRefusedByName() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run("DROP TABLE feature")
    let message =
      "store \"\(path)\" was made by a development version of vmckpt: it has no table of features; "
      + "restore its snapshots with the vmckpt that made it, and save them again with this one"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
  }

  /// What it says of pages, or of who may free them, cannot be known.
  @Test func aStoreWithAnUnknownFeatureForReadersIsNotRead() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run("INSERT INTO feature VALUES ('encrypted', 'reader')")
    let message =
      "store \"\(path)\" has the feature \"encrypted\", which this vmckpt does not know; "
      + "use the vmckpt that wrote it, or a newer one"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
    let failure = try ExtensionShell(path).failure("SELECT hex(page_data('a', 0));")
    #expect(failure.contains("has the feature \"encrypted\""), "\(failure)")
  }

  @Test func aStoreWithAnUnknownFeatureForWritersIsReadAndNotWritten() throws {
    let ram = sampleRAM(4)
    try bench.save("a", ram)
    let source = try bench.write("b.ram", sampleRAM(5))
    try bench.sql.run("INSERT INTO feature VALUES ('lease', 'writer')")
    let before = try readFile(path)
    for arguments in [
      ["save", source], ["delete", "a"], ["gc"], ["optimize"], ["tag", "a", "k=v"],
    ] {
      expectFailure(
        try bench.tool.start(arguments).wait(),
        65,
        "store \"\(path)\" has the feature \"lease\", which this vmckpt does not know and would harm by "
          + "writing; use the vmckpt that wrote it, or a newer one"
      )
    }
    #expect(try readFile(path) == before)
    let restored = bench.directory.file("out")
    expectSuccess(try bench.tool.run("restore", "a", "-o", restored))
    #expect(try readFile(restored) == ram)
    #expect(try ExtensionShell(path).run("SELECT hex(page_data('a', 0));") == hexText(ram[..<4096]))
    #expect(try bench.tool.verify().succeeded)
  }

  /// A plain restore compares no digests.
  @Test func aDamagedMarkIsNoticedByARestore() throws {
    var generator = TestGenerator(seed: 9)
    try bench.save("a", (0..<16).flatMap { _ in generator.pointerPage() })
    try bench.sql.run(
      """
      UPDATE chunk_data SET data =
        CAST(substr(data, 1, length(data) - 6) || x'0001' || substr(data, -4) AS BLOB)
      """
    )
    let output = bench.directory.file("out")
    let outcome = try bench.tool.run("restore", "a", "-o", output)
    #expect(outcome.ending == .exit(65))
    #expect("\(outcome)".contains("its mark of shuffled pages is damaged"), "\(outcome)")
    #expect(!exists(output))
  }

  @Test func shuffledPagesOutliveOptimizeAndGC() throws {
    var generator = TestGenerator(seed: 7)
    let pointers = (0..<400).map { _ in generator.pointerPage() }
    for command in ["optimize", "gc"] {
      let bench = try Workbench()
      try bench.save("a", pointers.flatMap { $0 }, "--compression", "none")
      // gc makes chunks anew that are mostly dead.
      let kept = stride(from: 0, to: 400, by: 9).flatMap { pointers[$0] }
      try bench.save("b", kept, "--compression", "none", "--vm", "other")
      try bench.tool.succeed("delete", "a")
      try bench.tool.succeed(command)
      #expect(try bench.problems(expecting: [("b", kept)]) == [])
    }
  }

  @Test func aStoreOfNoVersionIsRefused() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run("PRAGMA user_version = 0")
    try expectRefused(65, "store \"\(path)\" has the unknown format version 0")
  }

  @Test func aTextFileIsNoStore() throws {
    try writeFile(path, String(repeating: "This is not a database.\n", count: 100))
    let message =
      "\"\(path)\" is not a vmckpt store: it is not an SQLite database; "
      + "give the path of a store with --store"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
  }

  @Test func anEmptyFileIsNoStoreButCanBecomeOne() throws {
    try writeFile(path, "")
    try expectRefused(
      65,
      "\"\(path)\" is not a vmckpt store: it is empty; "
        + "give the path of a store with --store, or create one with: vmckpt save"
    )
    // Of saves that come together, none may replace the store of another.
    let ram = try bench.write("a.ram", sampleRAM(4))
    let saves = try (0..<4).map { try bench.tool.start(["save", ram, "--name", "\($0)"]) }
    for save in saves { expectSuccess(try save.wait()) }
    #expect(try bench.tool.snapshotNames().sorted() == ["0", "1", "2", "3"])
    #expect(try fileMode(path) == 0o600)
  }

  @Test func aDirectoryIsNoStore() throws {
    mkdir(path, 0o700)
    let ram = try bench.write("a.ram", sampleRAM(4))
    for arguments in [
      ["list"], ["gc"], ["restore", "a", "-o", bench.directory.file("out")], ["save", ram],
    ] {
      expectFailure(
        try bench.tool.start(arguments).wait(),
        65,
        "\"\(path)\" is not a vmckpt store: it is not a regular file; "
          + "give the path of a store with --store"
      )
    }
  }

  @Test func aMissingStoreIsNotMadeByReading() throws {
    try expectRefusedMissing(path)
    #expect(!exists(path))
  }

  private func expectRefusedMissing(_ path: String) throws {
    for verb in ["list", "gc", "verify", "stats"] {
      expectFailure(
        try bench.tool.run(verb),
        66,
        "there is no store at \"\(path)\"; name another with --store, or create it with: "
          + "vmckpt save"
      )
    }
  }

  /// A trigger would run a stranger's SQL in our transactions.
  @Test func aTriggerSmuggledInIsRefused() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run(
      "CREATE TRIGGER evil AFTER DELETE ON snapshot BEGIN DELETE FROM chunk; END"
    )
    let message =
      "store \"\(path)\" has a trigger, \"evil\"; "
      + "a store has none; drop it with sqlite3 if you put it there"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
  }

  @Test(arguments: ["store", "snapshot_tag", "page_index_block", "device_state", "overlay_kind"])
  func aTableThatIsMissingIsNamed(table: String) throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run("PRAGMA foreign_keys = OFF; DROP TABLE \(table)")
    try expectRefused(65, "store \"\(path)\" is damaged: table \(table) is missing")
  }

  @Test func aViewInATablesPlaceIsRefused() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run(
      """
      PRAGMA foreign_keys = OFF; DROP TABLE snapshot_tag;
      CREATE VIEW snapshot_tag AS SELECT 1 AS snapshot_id, 'k' AS key, 'v' AS value
      """
    )
    try expectRefused(65, "store \"\(path)\" is damaged: table snapshot_tag is missing")
  }

  @Test func aVirtualTableInATablesPlaceIsRefused() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run(
      "PRAGMA foreign_keys = OFF; DROP TABLE snapshot_tag; CREATE VIRTUAL TABLE snapshot_tag USING fts4 (snapshot_id, key, value)"
    )
    try expectRefused(65, "store \"\(path)\" is damaged: table snapshot_tag is missing")
  }
}
