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
    try bench.sql.run("PRAGMA user_version = 3")
    let message =
      "store \"\(path)\" has format version 3, and this vmckpt knows up to 2; "
      + "use the vmckpt that wrote it, or a newer one"
    try expectRefused(65, message)
    try expectSaveRefused(65, message)
  }

  /// A vmckpt that knows version 1 alone would take shuffled bytes for pages.
  @Test func aStoreIsOfVersion2FromTheFirstShuffledPageOn() throws {
    var generator = TestGenerator(seed: 6)
    let plain = (0..<40).flatMap { _ in generator.compressiblePage() }
    try bench.save("a", plain)
    #expect(try bench.sql.integer("PRAGMA user_version") == 1)
    #expect(try bench.tool.json("stats")["format_version"] as? Int == 1)
    let pointers = (0..<40).flatMap { _ in generator.pointerPage() }
    try bench.save("b", pointers)
    #expect(try bench.sql.integer("PRAGMA user_version") == 2)
    #expect(try bench.tool.json("stats")["format_version"] as? Int == 2)
    #expect(try bench.problems(expecting: [("a", plain), ("b", pointers)]) == [])
  }

  /// Its shuffled pages would make version 2 of a store that a newer vmckpt has made more of meanwhile.
  @Test func aSaveDoesNotLowerAVersionThatHasRisenMeanwhile() throws {
    var generator = TestGenerator(seed: 10)
    try bench.save("a", sampleRAM(40))
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "b", "--no-parent"],
      input: .descriptor(pipe.reader)
    )
    // More than a pipe holds: the save has opened the store when this returns.
    try pipe.write((0..<2000).flatMap { _ in generator.compressiblePage() })
    // Whoever has the file open otherwise waits for what is under way.
    try bench.sql.run("PRAGMA busy_timeout = 60000; PRAGMA user_version = 3")
    // No more than the pipe holds: nobody takes the rest from it once the save has ended.
    try pipe.write((0..<15).flatMap { _ in generator.pointerPage() })
    pipe.closeWriter()
    expectFailure(
      try save.wait(),
      65,
      "the store has become one of format version 3, and this vmckpt knows up to 2; "
        + "use a newer vmckpt"
    )
    #expect(try bench.sql.integer("PRAGMA user_version") == 3)
    try bench.sql.run("PRAGMA user_version = 2")
    #expect(try bench.problems(expecting: [("a", sampleRAM(40))]) == [])
  }

  /// An older vmckpt would be let near it.
  @Test func verifyTellsOfShuffledPagesInAStoreOfVersion1() throws {
    var generator = TestGenerator(seed: 8)
    try bench.save("a", (0..<40).flatMap { _ in generator.pointerPage() })
    try bench.sql.run("PRAGMA user_version = 1")
    let outcome = try bench.tool.run("verify")
    #expect(outcome.ending == .exit(65))
    #expect("\(outcome)".contains("format version 1 does not have"), "\(outcome)")
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

  @Test func optimizeAndGCBringTheVersionWithShuffledPages() throws {
    var generator = TestGenerator(seed: 7)
    let pointers = (0..<400).map { _ in generator.pointerPage() }
    for command in ["optimize", "gc"] {
      let bench = try Workbench()
      try bench.save("a", pointers.flatMap { $0 }, "--compression", "none")
      // gc makes chunks anew that are mostly dead.
      let kept = stride(from: 0, to: 400, by: 9).flatMap { pointers[$0] }
      try bench.save("b", kept, "--compression", "none", "--vm", "other")
      try bench.tool.succeed("delete", "a")
      #expect(try bench.sql.integer("PRAGMA user_version") == 1)
      try bench.tool.succeed(command)
      #expect(try bench.sql.integer("PRAGMA user_version") == 2, "\(command)")
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
      "\"\(path)\" is not a vmckpt store: it is no SQLite database; "
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
        "\"\(path)\" is not a vmckpt store: it is no regular file; "
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
