import Glibc
import Testing
import VMCheckpointTestSupport

/// Whoever deletes because the disk is full must not be told that the disk is full: with no byte left, what frees space
/// uses the space that the store has kept.
@Suite struct FullDiskRemovalTests {
  private let small = sampleRAM(40)

  @Test(arguments: SmallFileSystem.kinds)
  func snapshotsAreDeletedAndCollectedWithNoByteLeft(_ kind: SmallFileSystem.Kind) throws {
    let (fileSystem, bench) = try fullStore(kind)
    let before = try fileSize(bench.storePath).byteCount
    for arguments in [["delete", "victim"], ["gc"]] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.succeeded, "\(kind) \(arguments): \(outcome)")
      #expect(outcome.standardError.isEmpty)
      // What `gc` returns is there for everybody, and taken again before the next step.
      if arguments == ["delete", "victim"] { try fileSystem.fill("\(fileSystem.path)/ballast-2") }
    }
    #expect(try fileSize(bench.storePath).byteCount < before / 2)
    try expectSound(bench, [("small", small)], "after gc on a full disk")
    // The space is kept again.
    #expect(try bench.tool.json("stats")["reserve_bytes"] as? Int ?? 0 >= 1 << 20)
  }

  @Test(arguments: SmallFileSystem.kinds)
  func pruneFreesSpaceWithNoByteLeft(_ kind: SmallFileSystem.Kind) throws {
    let (fileSystem, bench) = try fullStore(kind)
    let before = fileSystem.freeByteCount
    let outcome = try bench.tool.start(["prune", "--keep-last", "1"]).wait()
    #expect(outcome.succeeded, "\(kind): \(outcome)")
    #expect(fileSystem.freeByteCount > before + 6 << 20)
    try expectSound(bench, [("small", small)], "after prune on a full disk")
  }

  /// Whoever makes room looks at what there is, and says by tags what stays.
  @Test(arguments: SmallFileSystem.kinds)
  func aFullDiskKeepsNobodyFromLookingAndTagging(_ kind: SmallFileSystem.Kind) throws {
    let (fileSystem, bench) = try fullStore(kind)
    for arguments in [
      ["list"], ["show", "small"], ["diff", "victim", "small"], ["verify"], ["status"], ["stats"],
      ["tag", "small", "keep=yes"], ["prune", "--keep-tag", "keep", "--dry-run"],
    ] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.succeeded, "\(kind) \(arguments): \(outcome)")
      #expect(outcome.standardError.isEmpty, "\(kind) \(arguments): \(outcome)")
    }
    #expect(try bench.tool.json("status")["verified_at"] is String)
    withExtendedLifetime(fileSystem) {}
  }

  /// Chunks of which a few pages are used are packed into new ones, which need space in the file.
  @Test(arguments: SmallFileSystem.kinds)
  func whatIsUsedInPartIsCollectedWithNoByteLeft(_ kind: SmallFileSystem.Kind) throws {
    let fileSystem = try SmallFileSystem(kind)
    let bench = try Workbench(in: fileSystem.path)
    let source = try TemporaryDirectory()
    let whole = incompressibleRAM(3000, seed: 9)
    // Each tenth page: every chunk stays, by one or two pages.
    var sparse = [UInt8](repeating: 0, count: whole.count)
    for page in stride(from: 0, to: 3000, by: 10) {
      sparse.replaceSubrange(
        page << 12..<(page + 1) << 12,
        with: whole[page << 12..<(page + 1) << 12]
      )
    }
    for (name, ram) in [("whole", whole), ("sparse", sparse)] {
      try writeFile(source.file(name), ram)
      try bench.tool.succeed("save", source.file(name), "--name", name)
    }
    try fileSystem.fill("\(fileSystem.path)/ballast")
    for arguments in [["delete", "whole"], ["gc"], ["gc"]] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.succeeded, "\(kind) \(arguments): \(outcome)")
    }
    #expect(try fileSize(bench.storePath).byteCount < 5 << 20)
    try expectSound(bench, [("sparse", sparse)], "after gc on a full disk")
  }

  /// SQLite keeps in its journal what it overwrites, and a row goes as a whole.
  @Test(arguments: SmallFileSystem.kinds)
  func aDeviceStateLargerThanTheKeptSpaceIsDeletedWithNoByteLeft(
    _ kind: SmallFileSystem.Kind
  ) throws {
    let fileSystem = try SmallFileSystem(kind)
    let bench = try Workbench(in: fileSystem.path)
    let source = try TemporaryDirectory()
    let state = source.file("vmm.state")
    try writeFile(state, incompressibleRAM(24 << 8, seed: 7))
    try writeFile(source.file("small.ram"), small)
    try bench.tool.succeed(
      "save",
      source.file("small.ram"),
      "--name",
      "heavy",
      "--device-state",
      "vmm=\(state)"
    )
    try bench.save("small", small)
    try fileSystem.fill("\(fileSystem.path)/ballast")
    let outcome = try bench.tool.start(["delete", "heavy"]).wait()
    #expect(outcome.succeeded, "\(kind): \(outcome)")
    let collected = try bench.tool.start(["gc"]).wait()
    #expect(collected.succeeded, "\(kind): \(collected)")
    #expect(try fileSize(bench.storePath).byteCount < 4 << 20)
    try expectSound(bench, [("small", small)], "after gc on a full disk")
    let secret = incompressibleRAM(24 << 8, seed: 7)[0..<64]
    #expect(!(try readFile(bench.storePath)).contains(secret), "the deleted state is still there")
  }

  /// A save that finds the disk full must not use up what deleting needs.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aSaveDoesNotUseTheKeptSpace() throws {
    let (fileSystem, bench) = try fullStore(.tmpfs)
    let kept = try bench.tool.json("stats")["reserve_bytes"] as? Int
    let source = try TemporaryDirectory()
    try writeFile(source.file("large.ram"), incompressibleRAM(800, seed: 4))
    let outcome = try bench.tool.run("save", source.file("large.ram"), "--name", "large")
    #expect(outcome.ending == .exit(74), "\(outcome)")
    #expect(try bench.tool.json("stats")["reserve_bytes"] as? Int == kept)
    #expect(kept ?? 0 >= 1 << 20)
    withExtendedLifetime(fileSystem) {}
  }

  /// What deleting needs of a store is never more than the store has.
  @Test func aSmallStoreKeepsLittleSpace() throws {
    let bench = try Workbench()
    try bench.save("small", small)
    let kept = try bench.tool.json("stats")["reserve_bytes"] as? Int ?? 0
    #expect((0...(1 << 20) + 8192).contains(kept))
  }

  /// A file that stands where the lock file belongs must not lose what it holds.
  @Test func aFileInTheLockFilesPlaceKeepsItsBytes() throws {
    let bench = try Workbench()
    try bench.save("small", small)
    let lock = bench.storePath + "-lock"
    unlink(lock)
    try writeFile(lock, [1, 2, 3])
    for arguments in [["delete", "small"], ["gc"]] { _ = try bench.tool.start(arguments).wait() }
    #expect(try readFile(lock) == [1, 2, 3])
  }

  /// A store with a snapshot `victim` of 8 MiB and `small`, on a file system without a free byte.
  private func fullStore(_ kind: SmallFileSystem.Kind) throws -> (SmallFileSystem, Workbench) {
    let fileSystem = try SmallFileSystem(kind)
    let bench = try Workbench(in: fileSystem.path)
    let source = try TemporaryDirectory()
    try writeFile(source.file("victim.ram"), incompressibleRAM(2000, seed: 5))
    try bench.tool.succeed("save", source.file("victim.ram"), "--name", "victim", "--vm", "web")
    try bench.save("small", small, "--vm", "web")
    try fileSystem.fill("\(fileSystem.path)/ballast")
    return (fileSystem, bench)
  }
}
