import Glibc
import Testing
import VMCheckpointTestSupport

/// Who reads a store holds a lock that its owner's deletes respect, or reads nothing.
@Suite(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
struct LockFileTests {
  private let bench: Workbench
  private var lock: String { bench.storePath + "-lock" }
  private let ram = incompressibleRAM(3000)

  init() throws {
    bench = try Workbench()
    try bench.save("a", ram)
    chmod(bench.directory.path, 0o755)
    chmod(bench.storePath, 0o644)
  }

  private func runAsOther(_ arguments: String...) throws -> ProcessOutcome {
    try run(OtherUser.commandLine(bench.tool.commandLine(arguments)))
  }

  private func owner(_ path: String) -> uid_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_uid : uid_t.max
  }

  @Test func aReaderWhoMayNotReadTheLockFileGetsNoPages() throws {
    chmod(lock, 0o600)
    for arguments in [["restore", "a", "-o", "-"], ["restore", "a", "-o", "-", "--verify"]] {
      expectFailure(
        try run(OtherUser.commandLine(bench.tool.commandLine(arguments))),
        77,
        "cannot open the store's lock file \"\(lock)\": Permission denied; "
          + "let the owner run: chmod 0644 \"\(lock)\""
      )
    }
    #expect(try runAsOther("verify").ending == .exit(77))
    // What needs no lock of vmckpt's goes on.
    expectSuccess(try runAsOther("list"))
  }

  @Test func aReadersPagesAreNotReplacedByAnotherGuestsWhileItReads() throws {
    chmod(lock, 0o600)
    // Whoever may change the lock file puts it right.
    expectSuccess(try bench.tool.verify())
    #expect(try fileMode(lock) == 0o644)
    let pipe = try ChildPipe()
    let restore = try ChildProcess(
      OtherUser.commandLine(bench.tool.commandLine(["restore", "a", "-o", "-"])),
      outputDescriptor: pipe.writerForChild
    )
    let first = try pipe.read(upTo: 4096)
    expectSuccess(try bench.tool.run("delete", "a"))
    let collection = try bench.tool.start(["gc"])
    let other = try bench.write("b.ram", incompressibleRAM(3000, seed: 2))
    try collection.waitUntilItWaits(for: .lock(lock))
    let save = try bench.tool.start(["save", other, "--name", "b", "--no-parent"])
    pipe.closeWriter()
    let rest = try pipe.readToEnd()
    let outcome = try restore.wait()
    #expect(outcome.succeeded, "\(outcome)")
    let isSame = first + rest == ram
    #expect(isSame)
    expectSuccess(try collection.wait())
    #expect(try save.wait().succeeded)
  }

  @Test func rootsVerifyLeavesNoLockFileThatShutsTheOwnerOut() throws {
    for path in [bench.directory.path, bench.storePath, bench.storePath + "-journal"] {
      try OtherUser.own(path)
    }
    chmod(bench.storePath, 0o600)
    unlink(lock)
    unlink(bench.storePath + "-journal")
    expectSuccess(try bench.tool.verify())
    for path in [lock, bench.storePath + "-journal"] {
      #expect(owner(path) == OtherUser.identifier)
      #expect(try fileMode(path) == 0o600)
    }
    expectSuccess(try runAsOther("gc"))
    // Nor does one that an older vmckpt has left stay so.
    lchown(lock, 0, 0)
    expectSuccess(try bench.tool.verify())
    #expect(owner(lock) == OtherUser.identifier)
    expectSuccess(try runAsOther("gc"))
  }

  @Test func aReaderWhoCannotMakeTheLockFileIsToldWhoCan() throws {
    unlink(lock)
    // Also where anybody could make one: the owner would not trust it.
    for mode: mode_t in [0o755, 0o1777] {
      chmod(bench.directory.path, mode)
      expectFailure(
        try runAsOther("restore", "a", "-o", "-"),
        77,
        "cannot make the store's lock file \"\(lock)\": Permission denied; "
          + "let the store's owner run vmckpt gc --dry-run, which makes it"
      )
      #expect(!exists(lock))
    }
    expectSuccess(try bench.tool.run("gc", "--dry-run"))
    let isSame = try runAsOther("restore", "a", "-o", "-").standardOutput == ram
    #expect(isSame)
  }

  @Test func aLinkAsLockFileGivesNobodyAnotherFile() throws {
    let victim = try bench.write("victim", "")
    chmod(victim, 0o600)
    for path in [bench.storePath, bench.storePath + "-journal"] { try OtherUser.own(path) }
    unlink(lock)
    link(victim, lock)
    #expect(try bench.tool.verify().ending == .exit(77))
    #expect(owner(victim) == 0)
    #expect(try fileMode(victim) == 0o600)
  }
}

/// A store on a file system that this process may only read and others write.
@Suite struct ReadOnlyFileSystemTests {
  /// Without a lock file there, SQLite's lock keeps writers from freeing what is being read.
  @Test(.enabled(if: SmallFileSystem.canMount, "cannot mount"))
  func aReaderWithoutALockFileStillKeepsItsPages() throws {
    let bench = try Workbench()
    let ram = incompressibleRAM(3000)
    try bench.save("a", ram)
    unlink(bench.storePath + "-lock")
    let script = """
      mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"
      """
    func readOnly(_ arguments: [String]) -> [String] {
      ["/usr/bin/env", "unshare", "--mount", "/bin/sh", "-c", script, bench.directory.path]
        + bench.tool.commandLine(arguments)
    }
    let pipe = try ChildPipe()
    let restore = try ChildProcess(
      readOnly(["restore", "a", "-o", "-"]),
      outputDescriptor: pipe.writerForChild
    )
    let first = try pipe.read(upTo: 4096)
    let delete = try bench.tool.start(["delete", "a"])
    try delete.waitUntilItWaits(for: .lock(bench.storePath))
    pipe.closeWriter()
    let rest = try pipe.readToEnd()
    let outcome = try restore.wait()
    #expect(outcome.succeeded, "\(outcome)")
    let isSame = first + rest == ram
    #expect(isSame)
    expectSuccess(try delete.wait())
    unlink(bench.storePath + "-lock")
    let refused = try run(readOnly(["gc"]))
    #expect(refused.ending == .exit(77), "\(refused)")
  }
}
