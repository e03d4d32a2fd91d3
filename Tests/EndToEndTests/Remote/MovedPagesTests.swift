import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Hosts that have fetched a snapshot, while its pages move to other packs of the remote, or go.
@Suite struct MovedPagesTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// Deletes all snapshots of the remote and their packs.
  private func empty(_ host: VMCkptTool, _ names: String...) throws {
    try #require(host.start(["remote", "delete"] + names).wait().succeeded)
    try host.succeed("remote", "gc")
    try #require(bench.packs.isEmpty)
  }

  /// A remote with the snapshots "first" and "second", which share pages, and a host that has fetched them. Then all of it
  /// is deleted, and pushed again in other packs, whose chunks have other pages together: another host has pushed some of
  /// them before.
  private func moved() throws -> (host: VMCkptTool, other: VMCkptTool, ram: [[UInt8]]) {
    let host = try bench.host("one")
    let first = incompressibleRAM(600)
    let second = Array(first[..<(400 << 12)]) + incompressibleRAM(200, seed: 2)
    try bench.save("first", first, on: host)
    try bench.save("second", second, on: host)
    try host.succeed("push", "first", "second")
    let other = try bench.host("two")
    try other.succeed("remote", "fetch")
    try empty(host, "first", "second")

    var some: [UInt8] = []
    for page in stride(from: 0, to: 600, by: 5) { some += first[(page << 12)..<((page + 1) << 12)] }
    let third = try bench.host("three")
    try bench.save("some", some, vm: "third", on: third)
    try third.succeed("push", "some")
    try host.succeed("push", "first", "second")
    return (host, other, [first, second])
  }

  @Test("a pull finds pages whose packs were collected where the snapshot was pushed again")
  func pull() throws {
    let (_, other, ram) = try moved()
    try other.succeed("tag", "first", "kept=yes")
    try other.succeed("pull", "first")
    #expect(try other.restored("first", in: bench.directory) == ram[0])
    #expect(try other.json("verify")["sound"] as? Bool == true)
    #expect((try other.json("show", "first")["tags"] as? [String: String])?["kept"] == "yes")
    // The other snapshot was not touched, and is found as well.
    try other.succeed("pull", "second")
    #expect(try other.restored("second", in: bench.directory) == ram[1])
    try other.succeed("gc")
    let verified = try other.json("verify")
    #expect(verified["sound"] as? Bool == true && verified["remote_chunks"] as? Int == 0)
    #expect(try other.restored("first", in: bench.directory) == ram[0])
  }

  @Test("a restore of what was only fetched finds pages whose packs were collected")
  func restore() throws {
    let (_, other, ram) = try moved()
    #expect(try other.restored("second", in: bench.directory) == ram[1])
    #expect(try other.restored("first", in: bench.directory) == ram[0])
    #expect(try other.json("verify")["sound"] as? Bool == true)
  }

  @Test(
    "a mount of what was only fetched finds pages whose packs were collected while it was read",
    .enabled(if: MountTool.canMount, "cannot mount FUSE file systems")
  )
  func mount() throws {
    let (_, other, ram) = try moved()
    let folder = bench.directory.file("mounted")
    try #require(mkdir(folder, 0o755) == 0)
    try other.succeed("mount", folder)
    defer { _ = try? other.run("unmount", "--lazy", folder) }
    for (name, pages) in zip(["first", "second"], ram) {
      let path = bench.directory.file("\(name).ram")
      try #require(try run(["/bin/cp", "\(folder)/by-name/\(name)/ram", path]).succeeded)
      #expect(try readFile(path) == pages)
    }
  }

  @Test("what is gone from the remote is said to be, with what to do, and never read as zeros")
  func gone() throws {
    let host = try bench.host("one")
    try bench.save("first", incompressibleRAM(100), on: host)
    try host.succeed("push", "first")
    let other = try bench.host("two")
    try other.succeed("remote", "fetch")
    try empty(host, "first")
    for arguments in [["pull", "first"], ["restore", "first", "-o", bench.directory.file("out")]] {
      let outcome = try other.start(arguments).wait()
      #expect(outcome.ending == .exit(66), "\(outcome)")
      #expect(outcome.standardError.contains("\"first\" was deleted from"), "\(outcome)")
      #expect(outcome.standardError.contains("vmckpt delete first"), "\(outcome)")
    }
    #expect(!exists(bench.directory.file("out")))
    try other.succeed("delete", "first")
    #expect(try other.run("pull", "first").ending == .exit(66))
  }

  @Test("a snapshot that was deleted in the remote is pulled as long as its packs are there")
  func deletedAndNotCollected() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(100)
    try bench.save("first", ram, on: host)
    try host.succeed("push", "first")
    let other = try bench.host("two")
    try other.succeed("remote", "fetch")
    try host.succeed("remote", "delete", "first")
    try other.succeed("pull", "first")
    #expect(try other.restored("first", in: bench.directory) == ram)
    #expect(try other.run("pull", "first").ending == .exit(66))
  }

  @Test("another snapshot under a UUID that is known takes no page's place")
  func hostileManifest() throws {
    let (host, other, ram) = try moved()
    // The same UUID, and other pages.
    try host.succeed("remote", "delete", "first")
    let fourth = try bench.host("four")
    try bench.save("first", incompressibleRAM(600, seed: 9), on: fourth)
    let uuid = try #require(try host.json("show", "first")["uuid"] as? String)
    try SQLiteShell(fourth.storePath).run("UPDATE snapshot SET uuid = '\(uuid)'")
    try fourth.succeed("push", "first")
    for arguments in [["pull", "first"], ["restore", "first", "-o", bench.directory.file("out")]] {
      let outcome = try other.start(arguments).wait()
      #expect(outcome.ending == .exit(65), "\(outcome)")
      #expect(outcome.standardError.contains("another snapshot under the UUID"), "\(outcome)")
    }
    #expect(try other.json("verify")["sound"] as? Bool == true)
    try other.succeed("pull", "second")
    #expect(try other.restored("second", in: bench.directory) == ram[1])
  }
}
