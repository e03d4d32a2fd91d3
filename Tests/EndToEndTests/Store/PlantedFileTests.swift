import Glibc
import Testing
import VMCheckpointTestSupport

/// In a directory where everybody can make files, what lies beside a store need not be the store's.
@Suite(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
struct PlantedFileTests {
  private let bench: Workbench
  private let ram = sampleRAM(40)

  init() throws {
    bench = try Workbench()
    try bench.save("a", ram)
    chmod(bench.directory.path, 0o1777)
  }

  private func message(_ path: String, _ reason: String) -> String {
    "\"\(path)\" would be used as a part of the store, and \(reason); "
      + "remove it if you did not expect it"
  }

  @Test(arguments: ["-journal", "-wal", "-shm", "-lock"])
  func aFileThatAnotherUserPutBesideAStoreIsNotUsed(suffix: String) throws {
    let path = bench.storePath + suffix
    unlink(path)
    try writeFile(path, [UInt8](repeating: 7, count: 1024))
    try OtherUser.own(path)
    let before = try readFile(bench.storePath)
    let source = try bench.write("b.ram", ram)
    let reason = "its owner is another user (uid \(OtherUser.identifier))"
    let commands = [["list"], ["verify"], ["save", source], ["gc"], ["restore", "a", "-o", "-"]]
    for arguments in commands {
      expectFailure(try bench.tool.start(arguments).wait(), 77, message(path, reason))
    }
    #expect(try readFile(bench.storePath) == before)
    #expect(try readFile(path).count == 1024)
    unlink(path)
    try expectSound(bench, [("a", ram)], "after \(suffix)")
  }

  /// Beside a new store, too: the first save would roll the journal back into it.
  @Test(arguments: ["-journal", "-wal", "-shm", "-lock"])
  func aFileThatAnotherUserPutWhereAStoreIsToBeMadeIsNotUsed(suffix: String) throws {
    let tool = try VMCkptTool(storePath: bench.directory.file("new.db"))
    let path = tool.storePath + suffix
    try writeFile(path, "")
    try OtherUser.own(path)
    let source = try bench.write("b.ram", ram)
    let reason = "its owner is another user (uid \(OtherUser.identifier))"
    expectFailure(try tool.run("save", source), 77, message(path, reason))
    #expect(!exists(tool.storePath))
  }

  @Test func aLinkBesideAStoreIsNotFollowed() throws {
    let victim = try bench.write("victim", "precious")
    let journal = bench.storePath + "-journal"
    unlink(journal)
    symlink(victim, journal)
    expectFailure(
      try bench.tool.run("list"),
      77,
      message(journal, "is not a regular file (its owner is uid 0)")
    )
    unlink(journal)
    link(victim, journal)
    expectFailure(
      try bench.tool.run("list"),
      77,
      message(journal, "has 2 names (hard links; its owner is uid 0)")
    )
    #expect(try readFile(victim) == Array("precious".utf8))
  }

  /// The journal comes after the store was opened.
  @Test func aJournalThatIsExchangedDuringASaveIsNotWritten() throws {
    let journal = bench.storePath + "-journal"
    let pipe = try ChildPipe()
    let save = try bench.tool.start(
      ["save", "-", "--name", "b", "--no-parent"],
      input: .descriptor(pipe.reader)
    )
    // The rest fits into the pipe, also when nobody reads it any more.
    let more = incompressibleRAM(2048 + 12)
    try pipe.write(Array(more[..<(2048 * 4096)]))
    try save.waitUntilItWaits(for: .descriptor)
    try waitUntil("the save has committed what it has") {
      try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    unlink(journal)
    try writeFile(journal, "")
    try OtherUser.own(journal)
    try pipe.write(Array(more[(2048 * 4096)...]))
    pipe.closeWriter()
    let outcome = try save.wait()
    #expect(outcome.ending == .exit(77), "\(outcome)")
    #expect(try readFile(journal).isEmpty)
    unlink(journal)
    expectSuccess(try bench.tool.run("gc"))
    try expectSound(bench, [("a", ram)], "after a journal of another user's")
  }

  @Test func aWriterLeavesNoPlaceForAnotherUsersJournal() throws {
    let journal = bench.storePath + "-journal"
    chmod(bench.storePath, 0o640)
    unlink(journal)
    expectSuccess(try bench.tool.run("list"))
    #expect(try fileMode(journal) == 0o640)
  }

  /// Those who share a store work in it in turn.
  @Test func aFileOfSomebodyWhoMayWriteTheStoreIsUsed() throws {
    chmod(bench.storePath, 0o666)
    for suffix in ["-journal", "-lock"] {
      try OtherUser.own(bench.storePath + suffix)
      expectSuccess(try bench.tool.run("verify"))
    }
    // No longer, when that user may not. (Root gives a journal that it writes to the store's owner.)
    try OtherUser.own(bench.storePath + "-journal")
    chmod(bench.storePath, 0o600)
    #expect(try bench.tool.run("list").ending == .exit(77))
  }

  @Test func aGuestIsNotSavedIntoAStoreThatAnotherUserHasPutThere() throws {
    try OtherUser.own(bench.storePath)
    chmod(bench.storePath, 0o666)
    let source = try bench.write("b.ram", ram)
    let store = "store \"\(bench.storePath)\""
    expectFailure(
      try bench.tool.run("save", source, "--name", "b"),
      77,
      "another user (uid \(OtherUser.identifier)) owns \(store), in a directory where everybody "
        + "can make files, and could read the guest; save into a store of your own, or move that "
        + "one to a directory of its owner's"
    )
    #expect(try bench.tool.snapshotNames() == ["a"])
    chmod(bench.directory.path, 0o755)
    let outcome = try bench.tool.run("save", source, "--name", "b")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError == """
        vmckpt: warning: another user (uid \(OtherUser.identifier)) owns \(store) and can read \
        the guest; chown 0 "\(bench.storePath)" ends that
        vmckpt: warning: every user can read and change the guests in \(store); chmod o-rw \
        "\(bench.storePath)" ends that

        """
    )
  }

  @Test func whoCanReadTheGuestIsSaid() throws {
    let source = try bench.write("b.ram", ram)
    chmod(bench.storePath, 0o644)
    let outcome = try bench.tool.run("save", source, "--name", "b")
    #expect(outcome.succeeded)
    #expect(
      outcome.standardError == "vmckpt: warning: every user can read the guests in store "
        + "\"\(bench.storePath)\"; chmod o-rw \"\(bench.storePath)\" ends that\n"
    )
    chmod(bench.storePath, 0o640)
    expectSuccess(try bench.tool.run("save", source, "--name", "c"))
  }

  /// What remains of a store that was removed after a crash would damage the next one.
  @Test func anOldJournalIsNotRolledBackIntoANewStore() throws {
    let journal = bench.storePath + "-journal"
    try writeFile(journal, [UInt8](repeating: 1, count: 512))
    unlink(bench.storePath)
    let source = try bench.write("b.ram", ram)
    expectFailure(
      try bench.tool.run("save", source),
      73,
      "cannot create store \"\(bench.storePath)\": \"\(journal)\" belongs to a store that is not "
        + "there any more; put that store back beside it, or remove it"
    )
    unlink(journal)
    #expect(try bench.tool.run("save", source).succeeded)
  }
}
