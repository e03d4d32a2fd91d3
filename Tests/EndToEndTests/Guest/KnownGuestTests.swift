import Foundation
import Testing
import VMCheckpointTestSupport

/// The kernel of a real guest is looked for once, and then known to every process of the user.
@Suite(.guest) struct KnownGuestTests {
  private let bench: Workbench
  private let cacheHome: String

  init() throws {
    bench = try Workbench()
    cacheHome = bench.directory.file("cache")
    for (index, path) in try GuestImages().moments.enumerated() {
      try bench.tool.succeed("save", path, "--vm", "guest", "--name", "m\(index + 1)")
    }
  }

  private var files: [String] {
    let path = "\(cacheHome)/vmckpt/kernels"
    return (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
  }

  private static func searches(_ snapshots: String...) -> String {
    snapshots.map { "SELECT search FROM guest_os('\($0)');" }.joined()
  }

  @Test func anotherProcessAndAnotherSnapshotNeedNoSearch() throws {
    let shell = ExtensionShell(bench.storePath, cacheHome: cacheHome)
    #expect(try shell.run(Self.searches("m1", "m2")) == "whole RAM\nknown")
    #expect(files.count == 1)
    #expect(try shell.run(Self.searches("m1", "m2")) == "known\nknown")
    // All rows of all tables, with and without.
    let rows = GuestTables.names.map { "SELECT *, note FROM \($0)('m2');" }.joined()
    let answer = try shell.run(rows)
    #expect(try answer == ExtensionShell(bench.storePath).run(rows))
    #expect(answer.utf8.count > 100_000)
  }

  @Test func commandsKnowWhatSQLHasFoundAndTheOtherWayRound() throws {
    let environment = ["XDG_CACHE_HOME": cacheHome]
    func run(_ environment: [String: String]) throws -> String {
      let outcome = try ChildProcess(
        bench.tool.commandLine(["ps", "m1", "-e"]),
        environment: environment
      ).wait()
      #expect(outcome.succeeded && outcome.standardError.isEmpty, "\(outcome)")
      return outcome.text
    }
    let off = environment.merging(["VMCKPT_KERNEL_CACHE": "off"]) { $1 }
    let searched = try run(off)
    #expect(files.isEmpty, "it was turned off")
    #expect(try run(environment) == searched)
    #expect(files.count == 1)
    #expect(try run(environment) == searched)
    let shell = ExtensionShell(bench.storePath, cacheHome: cacheHome)
    #expect(try shell.run(Self.searches("m2")) == "known")
    // No home, or one where nothing can be made.
    #expect(try run(["XDG_CACHE_HOME": "", "HOME": ""]) == searched)
    #expect(try run(["XDG_CACHE_HOME": "/proc/self/none"]) == searched)
  }

  @Test func processesAtOnceLeaveOneWholeFile() throws {
    let children = try (1...4).map { _ in
      try ChildProcess(
        bench.tool.commandLine(["dmesg", "m1"]),
        environment: ["XDG_CACHE_HOME": cacheHome]
      )
    }
    let texts = try children.map { child in
      let outcome = try child.wait()
      #expect(outcome.succeeded, "\(outcome)")
      return outcome.text
    }
    #expect(Set(texts).count == 1)
    #expect(files.count == 1 && !files[0].hasPrefix("."), "\(files)")
    let shell = ExtensionShell(bench.storePath, cacheHome: cacheHome)
    #expect(try shell.run(Self.searches("m1")) == "known")
  }
}
