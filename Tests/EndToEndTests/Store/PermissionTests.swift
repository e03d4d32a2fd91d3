import Glibc
import Testing
import VMCheckpointTestSupport

/// Who may not write still can read; guest memory is for its owner alone.
///
/// Root passes every permission check, so as root the tool runs without root's capabilities.
@Suite struct PermissionTests {
  private let bench: Workbench
  private var path: String { bench.storePath }
  private let ram = sampleRAM(60)
  private static let readOnly =
    "writing needs write permission for the store and for its directory"

  init() throws {
    bench = try Workbench()
    try bench.save("a", ram)
  }

  private func runUnprivileged(_ arguments: String...) throws -> ProcessOutcome {
    try runUnprivileged(arguments)
  }

  private func runUnprivileged(_ arguments: [String]) throws -> ProcessOutcome {
    let command = bench.tool.commandLine(arguments)
    guard geteuid() == 0 else { return try run(command) }
    return try run(["/usr/bin/env", "setpriv", "--bounding-set=-all", "--inh-caps=-all"] + command)
  }

  private func withReadOnlyDirectory(_ body: () throws -> Void) throws {
    chmod(bench.directory.path, 0o555)
    defer { chmod(bench.directory.path, 0o755) }
    try body()
  }

  @Test func aReadOnlyStoreCanBeReadAndRefusesEveryChange() throws {
    chmod(path, 0o444)
    try withReadOnlyDirectory {
      for arguments in ["list", "stats", "verify"] {
        expectSuccess(try runUnprivileged(arguments))
      }
      expectSuccess(try runUnprivileged("show", "a"))
      let restored = try runUnprivileged("restore", "a", "-o", "-")
      let isSame = restored.standardOutput == ram
      #expect(isSame)
      for arguments in [["gc"], ["optimize"], ["delete", "a"], ["tag", "a", "k=v"]] {
        let outcome = try runUnprivileged(arguments)
        expectFailure(outcome, 77, "store \"\(path)\" is read-only; \(Self.readOnly)")
      }
    }
    #expect(try bench.tool.snapshotNames() == ["a"])
  }

  @Test func savingIntoAReadOnlyStoreIsRefused() throws {
    let source = try bench.write("b.ram", ram)
    chmod(path, 0o444)
    try withReadOnlyDirectory {
      expectFailure(
        try runUnprivileged("save", source, "--name", "b"),
        77,
        "store \"\(path)\" is read-only; \(Self.readOnly)"
      )
    }
  }

  /// SQLite needs its journal beside the store, so a store in a read-only directory is read-only.
  @Test func aStoreInAReadOnlyDirectoryCanBeReadAndRefusesEveryChange() throws {
    let source = try bench.write("b.ram", ram)
    chmod(path, 0o666)
    unlink(path + "-journal")
    try withReadOnlyDirectory {
      expectSuccess(try runUnprivileged("list"))
      expectSuccess(try runUnprivileged("verify"))
      let isSame = try runUnprivileged("restore", "a", "-o", "-").standardOutput == ram
      #expect(isSame)
      // A gc that finds nothing to free needs no more than the lock.
      for arguments in [["optimize"], ["delete", "a"], ["tag", "a", "k=v"], ["save", source]] {
        let outcome = try runUnprivileged(arguments)
        #expect(outcome.ending == .exit(77), "\(outcome)")
        #expect(outcome.standardError.hasSuffix("; \(Self.readOnly)\n"))
      }
    }
    try expectSound(bench, [("a", ram)], "after refusals")
  }

  @Test func aStoreThatMayNotBeReadIsRefused() throws {
    chmod(path, 0)
    defer { chmod(path, 0o600) }
    expectFailure(
      try runUnprivileged("list"),
      77,
      "no permission to read store \"\(path)\"; run as the user who owns it"
    )
  }

  @Test func aStoreInADirectoryThatMayNotBeWrittenCannotBeMade() throws {
    unlink(path)
    let source = try bench.write("b.ram", ram)
    try withReadOnlyDirectory {
      expectFailure(
        try runUnprivileged("save", source),
        77,
        "cannot create store \"\(path)\": Permission denied; "
          + "choose a directory that you may write to with --store"
      )
    }
  }

  @Test func aTargetInADirectoryThatMayNotBeWrittenIsRefused() throws {
    let target = bench.directory.file("out.ram")
    try withReadOnlyDirectory {
      expectFailure(
        try runUnprivileged("restore", "a", "-o", target),
        77,
        "cannot create \"\(target)\": Permission denied"
      )
    }
  }

  @Test func filesWithGuestMemoryAreForTheirOwnerAlone() throws {
    let bench = try Workbench()
    let previous = umask(0)
    defer { umask(previous) }
    let overlays = try bench.write(
      "o.json",
      #"{"format":1,"overlays":[{"kind":"hypercall","pfn":1,"variant":"vmcall"}]}"#
    )
    try bench.save("a", ram, "--overlays", overlays)
    let (target, out) = (bench.directory.file("out.ram"), bench.directory.file("out.json"))
    try bench.tool.succeed("restore", "a", "-o", target, "--overlays-out", out)
    for file in [bench.storePath, bench.storePath + "-journal", target, out] {
      #expect(try fileMode(file) == 0o600, "\(file)")
    }
  }
}
