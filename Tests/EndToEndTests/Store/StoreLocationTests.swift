import Glibc
import Testing
import VMCheckpointTestSupport

/// However a store is named, there is one of it: one journal, one lock, mode 0600.
@Suite struct StoreLocationTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func tool(_ name: String) throws -> VMCkptTool {
    try VMCkptTool(storePath: bench.directory.file(name))
  }

  @Test func aCollectionThroughALinkDoesNotTakeChunksFromARunningSave() throws {
    let ram = incompressibleRAM(3000)
    try bench.save("old", ram)
    symlink(bench.storePath, bench.directory.file("link.db"))
    let linked = try tool("link.db")
    try bench.tool.succeed("tag", "old", "k=v")
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "new", "--no-parent"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(Array(ram[..<(2048 * 4096)]))
    try save.waitUntilItWaits(for: .descriptor)
    // The pages that the save has found so far are now named by nothing else.
    expectSuccess(try linked.run("delete", "old"))
    let collection = try linked.start(["gc"])
    try collection.waitUntilItWaits(for: .lock(bench.storePath + "-lock"))
    try pipe.write(Array(ram[(2048 * 4096)...]))
    pipe.closeWriter()
    expectSuccess(try save.wait())
    expectSuccess(try collection.wait())
    try expectSound(bench, [("new", ram)], "after a gc through a link")
    #expect(!exists(bench.directory.file("link.db-lock")))
  }

  @Test func aSaveWhoseLockFileWasRemovedIsNotSaidToBeSaved() throws {
    let ram = incompressibleRAM(3000)
    try bench.save("old", ram)
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "new", "--no-parent"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(Array(ram[..<(2048 * 4096)]))
    try save.waitUntilItWaits(for: .descriptor)
    unlink(bench.storePath + "-lock")
    expectSuccess(try bench.tool.run("delete", "old"))
    expectSuccess(try bench.tool.run("gc"))
    try pipe.write(Array(ram[(2048 * 4096)...]))
    pipe.closeWriter()
    let outcome = try save.wait()
    #expect(!outcome.succeeded, "\(outcome)")
    try expectSound(bench, [], "after a save that lost its lock")
  }

  @Test func aStoreWithTwoNamesIsRefused() throws {
    try bench.save("a", sampleRAM(4))
    link(bench.storePath, bench.directory.file("other.db"))
    let message =
      "store \"\(bench.storePath)\" has 2 names (hard links), and processes that use different "
      + "ones would damage it; remove the others, or copy the file and use the copy"
    expectFailure(try bench.tool.run("gc"), 65, message)
    expectFailure(try bench.tool.run("list"), 65, message)
    unlink(bench.directory.file("other.db"))
    expectSuccess(try bench.tool.run("gc"))
  }

  @Test(arguments: [":memory:", "file:uri.db?mode=memory", "file:uri.db"])
  func aNameThatSQLiteTakesForSomethingElseIsAFile(name: String) throws {
    let ram = try bench.write("a.ram", sampleRAM(4))
    let directory = bench.directory
    let binary = try VMCkptTool.path()
    let outcome = try run([
      "/bin/sh", "-c", "cd \"$1\" && exec \"$2\" save \"$3\" --name a --store \"$4\"", "sh",
      directory.path, binary, ram, name,
    ])
    expectSuccess(outcome)
    #expect(try fileMode(directory.file(name)) == 0o600)
    #expect(try tool(name).snapshotNames() == ["a"])
  }

  @Test func aStoreMadeThroughADanglingLinkIsSecret() throws {
    symlink("target.db", bench.directory.file("dangling.db"))
    let ram = try bench.write("a.ram", sampleRAM(4))
    expectSuccess(try tool("dangling.db").run("save", ram, "--name", "a"))
    #expect(try fileMode(bench.directory.file("target.db")) == 0o600)
    #expect(try fileMode(bench.directory.file("target.db-lock")) == 0o600)
    #expect(try tool("target.db").snapshotNames() == ["a"])
  }

  @Test func aForeignDatabaseInWALModeIsNotTouched() throws {
    try bench.sql.run("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    let before = try readFile(bench.storePath)
    let ram = try bench.write("a.ram", sampleRAM(4))
    let message =
      "\"\(bench.storePath)\" is not a vmckpt store: it is another program's SQLite database; "
      + "give the path of a store with --store"
    for arguments in [["list"], ["gc"], ["verify"], ["save", ram], ["delete", "a"]] {
      expectFailure(try bench.tool.start(arguments).wait(), 65, message)
      #expect(try readFile(bench.storePath) == before)
    }
  }

  @Test(arguments: ["", "-journal", "-wal", "-shm", "-lock"])
  func aRestoreOverAFileOfTheStoreIsRefused(suffix: String) throws {
    try bench.save("a", sampleRAM(4))
    symlink(bench.directory.path, bench.directory.file("here"))
    let names = ["store.db" + suffix, "here/store.db" + suffix, "./here/./store.db" + suffix]
    for name in names {
      let path = bench.directory.path + "/" + name
      for arguments in [["-o", path], ["-o", bench.directory.file("q"), "--overlays-out", path]] {
        expectFailure(
          try bench.tool.start(["restore", "a", "--force"] + arguments).wait(),
          73,
          "cannot create \"\(path)\": it belongs to the store; give another path"
        )
      }
    }
    #expect(!exists(bench.directory.file("q")))
    expectSuccess(try bench.tool.verify())
  }

  @Test(arguments: [[], ["--force"]])
  func ramIsNotReplacedByItsOwnOverlays(options: [String]) throws {
    try bench.save("a", sampleRAM(4))
    let path = bench.directory.file("q")
    let other = bench.directory.path + "/./q"
    let outcome = try bench.tool.start(
      ["restore", "a", "-o", path, "--overlays-out", other] + options
    ).wait()
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(!exists(path))
  }

  @Test func aStoreIsNotSavedIntoItself() throws {
    try bench.save("a", sampleRAM(4))
    let outcome = try bench.tool.run("save", bench.storePath)
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(try bench.tool.snapshotNames() == ["a"])
  }

  @Test func aNameTooLongForTheFilesBesideItIsRefusedAtOnce() throws {
    let ram = try bench.write("a.ram", sampleRAM(4))
    let name = String(repeating: "n", count: 250)
    let outcome = try tool(name).run("save", ram)
    #expect(outcome.ending == .exit(73), "\(outcome)")
    #expect(!exists(bench.directory.file(name)))
  }

  @Test func aDryRunWorksOnAStoreThatMayNotBeWritten() throws {
    try bench.save("a", sampleRAM(40))
    chmod(bench.storePath, 0o400)
    defer { chmod(bench.storePath, 0o600) }
    expectSuccess(try bench.tool.run("gc", "--dry-run"))
  }
}
