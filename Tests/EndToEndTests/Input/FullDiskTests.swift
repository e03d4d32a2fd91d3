import Glibc
import Testing
import VMCheckpointTestSupport

/// A disk that fills up costs the operation under way and nothing else.
@Suite struct FullDiskTests {
  private let small = sampleRAM(40)
  private let large = incompressibleRAM(2000, seed: 2)

  /// A file system with 4 MiB; needs root and the permission to mount, which some containers lack.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aFullFileSystemEndsASaveAndNothingElse() throws {
    let fileSystem = try SmallFileSystem()
    let bench = try Workbench(in: fileSystem.path)
    let source = try TemporaryDirectory()
    try writeFile(source.file("large.ram"), large)
    try bench.save("small", small)
    for _ in 0..<2 {
      expectFailure(
        try bench.tool.run("save", source.file("large.ram"), "--name", "large"),
        74,
        "the disk is full: cannot write to store \"\(bench.storePath)\"; free some space and "
          + "try again; vmckpt prune and vmckpt delete make room, even on a full disk"
      )
    }
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot") == 1)
    try expectSound(bench, [("small", small)], "after the disk was full")
  }

  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aRestoreThatDoesNotFitIsRefusedBeforeItBegins() throws {
    let fileSystem = try SmallFileSystem()
    let bench = try Workbench()
    try bench.save("large", large)
    let target = "\(fileSystem.path)/out.ram"
    let outcome = try bench.tool.run("restore", "large", "-o", target)
    #expect(outcome.ending == .exit(73))
    #expect(
      outcome.standardError.hasPrefix("vmckpt: not enough space for \"\(target)\": it needs ")
    )
    #expect(
      outcome.standardError.hasSuffix("; free some space, or restore to another file system\n")
    )
    #expect(directoryEntries(fileSystem.path).isEmpty)
  }

  /// The advice must not be to collect the store, whose disk has room.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aCopyThatDoesNotFitLeavesNothing() throws {
    let fileSystem = try SmallFileSystem()
    let bench = try Workbench()
    try bench.save("large", large)
    let target = "\(fileSystem.path)/copy.db"
    expectFailure(
      try bench.tool.run("backup", target),
      74,
      "cannot write the copy \"\(target)\" to disk: No space left on device; free some space, or "
        + "choose another path"
    )
    #expect(directoryEntries(fileSystem.path).isEmpty)
  }

  /// RAM that is put down for a moment, and RAM that goes to its place.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aConversionThatDoesNotFitLeavesNothing() throws {
    let fileSystem = try SmallFileSystem()
    let bench = try Workbench()
    let source = try bench.write("large.ram", large)
    let target = "\(fileSystem.path)/out"
    for (word, message) in [
      (
        source, "cannot write \"\(target)\": No space left on device; free some space and try again"
      ),
      (
        "-",
        "cannot write a temporary file in \"\(fileSystem.path)\": No space left on device; the guest's RAM is "
          + "put down there for a moment; free some space and try again"
      ),
    ] {
      let outcome = try bench.tool.run(
        "convert",
        word,
        "-o",
        target,
        "--format",
        "elf",
        input: .file(source)
      )
      expectFailure(outcome, 74, message)
      #expect(directoryEntries(fileSystem.path).isEmpty)
    }
  }

  /// The space is there when the restore looks, and gone when it writes.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func anOverlaysFileThatDoesNotFitLeavesNoRAMFile() throws {
    let fileSystem = try SmallFileSystem()
    let bench = try Workbench()
    let overlays = try bench.write(
      "o.json",
      #"{"format":1,"overlays":[{"kind":"hypercall","pfn":1,"variant":"vmcall"}]}"#
    )
    try bench.save("small", small, "--overlays", overlays)
    let ballast = "\(fileSystem.path)/ballast"
    try fileSystem.fill(ballast)
    let out = "\(fileSystem.path)/out.json"
    let target = bench.directory.file("out.ram")
    let outcome = try bench.tool.run("restore", "small", "-o", target, "--overlays-out", out)
    #expect(outcome.ending == .exit(74), "\(outcome)")
    #expect(outcome.standardError.hasPrefix("vmckpt: cannot write \"\(out)\": "))
    #expect(!exists(target))
    #expect(directoryEntries(fileSystem.path) == ["ballast"])
    #expect(bench.leftovers.isEmpty)
  }

  /// Works where nothing can be mounted: the process may not write beyond this size.
  @Test func aFileSizeLimitEndsASaveAndNothingElse() throws {
    let bench = try Workbench()
    try bench.save("small", small)
    let source = try bench.write("large.ram", large)
    let outcome = try run(limited(bench.tool.commandLine(["save", source, "--name", "large"])))
    #expect(outcome.ending == .exit(74), "\(outcome)")
    #expect(outcome.standardError.hasPrefix("vmckpt: store \"\(bench.storePath)\": "))
    #expect(outcome.standardError.split(separator: "\n").count == 1)
    try expectSound(bench, [("small", small)], "after a write failed")
  }

  @Test func aFileSizeLimitEndsARestoreAndLeavesNoFile() throws {
    let bench = try Workbench()
    try bench.save("large", large)
    let before = bench.directory.entries
    let target = bench.directory.file("out.ram")
    let outcome = try run(limited(bench.tool.commandLine(["restore", "large", "-o", target])))
    #expect([.exit(73), .exit(74)].contains(outcome.ending), "\(outcome)")
    #expect(outcome.standardError.split(separator: "\n").count == 1)
    #expect(bench.directory.entries == before)
  }

  /// Without a shell that ignores it, the signal for the limit ends the process at once.
  @Test func theSignalForTheLimitLeavesASoundStore() throws {
    let bench = try Workbench()
    try bench.save("small", small)
    let source = try bench.write("large.ram", large)
    let outcome = try run(
      limited(bench.tool.commandLine(["save", source, "--name", "large"]), ignoringSignal: false)
    )
    #expect(outcome.ending == .signal(SIGXFSZ) || outcome.ending == .exit(74), "\(outcome)")
    try expectSound(bench, [("small", small)], "after SIGXFSZ")
  }

  /// `command` with files of at most 2 MiB.
  private func limited(_ command: [String], ignoringSignal: Bool = true) -> [String] {
    let script = (ignoringSignal ? "trap '' XFSZ; " : "") + "ulimit -f 4096; exec \"$@\""
    return ["/bin/sh", "-c", script, "sh"] + command
  }
}
