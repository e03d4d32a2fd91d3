import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt remote prune`: rules for what a remote keeps.
@Suite struct RemotePruneTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// A host whose remote has `web/1` to `web/4`, each the next one's parent, and `db/1`.
  private func pushed() throws -> VMCkptTool {
    let host = try bench.host("one")
    for number in 1...4 {
      let tags = number == 1 ? ["--tag", "keep=yes"] : []
      let ram = incompressibleRAM(40, seed: UInt64(number))
      try bench.save("web/\(number)", ram, vm: "web", tags, on: host)
    }
    try bench.save("db/1", incompressibleRAM(40, seed: 9), vm: "db", on: host)
    try host.succeed("push", "--all")
    return host
  }

  private func names(_ host: VMCkptTool) throws -> [String] {
    let shown = try host.json("remote", "show")["snapshots"] as? [[String: Any]]
    return try #require(shown).compactMap { $0["name"] as? String }.sorted()
  }

  @Test("what no rule keeps goes, the newest of each VM stays, and stores keep theirs")
  func deletesWhatNoRuleKeeps() throws {
    let host = try pushed()
    let dry = try host.json("remote", "prune", "--keep-last", "2", "--dry-run")
    #expect(dry["dry_run"] as? Bool == true)
    #expect(try names(host).count == 5)
    let result = try host.json("remote", "prune", "--keep-last", "1", "--keep-tag", "keep")
    #expect(result["remote"] as? String == "origin")
    let snapshots = try #require(result["snapshots"] as? [[String: Any]])
    let kept = snapshots.filter { $0["kept"] as? Bool == true }
    #expect(kept.compactMap { $0["name"] as? String } == ["web/1", "web/4", "db/1"])
    #expect(kept.first?["reasons"] as? [String] == ["tag keep"])
    #expect(try names(host) == ["db/1", "web/1", "web/4"])
    try host.succeed("remote", "gc")
    #expect(try host.run("remote", "check", "--read-data", "100").succeeded)
    let other = try bench.host("two")
    for name in ["web/1", "web/4", "db/1"] { try other.succeed("pull", name) }
    #expect(try other.run("pull", "web/2").ending == .exit(66))
    #expect(try host.json("list")["snapshots"].map { ($0 as? [Any])?.count } == 5)
    let again = try host.run("remote", "prune", "--keep-last", "1", "--keep-tag", "keep")
    #expect(again.standardOutputText.hasSuffix("0 snapshots deleted, 3 kept\n"), "\(again)")
  }

  @Test("--vm and --keep-children are those of prune")
  func rules() throws {
    let host = try pushed()
    try host.succeed("remote", "prune", "--keep-last", "1", "--delete-newest", "--vm", "db")
    try host.succeed("remote", "prune", "--keep-last", "1", "--keep-children", "--vm", "web")
    #expect(try names(host) == ["db/1", "web/1", "web/2", "web/3", "web/4"])
    try host.succeed("remote", "prune", "--keep-tag", "none", "--delete-newest", "--vm", "db")
    #expect(try names(host) == ["web/1", "web/2", "web/3", "web/4"])
  }

  /// A host that pulled a snapshot under a name of its own pushes it so.
  @Test("of a snapshot that is there under two names, the name goes that no rule keeps")
  func twoNames() throws {
    let one = try bench.host("one")
    try bench.save("a", incompressibleRAM(40), on: one)
    try bench.save("b", incompressibleRAM(40, seed: 2), on: one)
    try one.succeed("push", "--all")
    let two = try bench.host("two")
    try two.succeed("pull", "a", "--name", "keep-me")
    try two.succeed("tag", "keep-me", "keep=yes")
    try two.succeed("push", "keep-me")
    #expect(try names(two) == ["a", "b", "keep-me"])
    try two.succeed("remote", "prune", "--keep-tag", "keep")
    #expect(try names(two) == ["b", "keep-me"])
    try two.succeed("remote", "gc")
    let three = try bench.host("three")
    try three.succeed("pull", "keep-me")
    #expect(try three.verify().succeeded)
  }

  @Test("a manifest that cannot be read goes by its name, and stops no push of others")
  func damagedManifest() throws {
    let host = try pushed()
    let path = try #require(bench.objects("snapshots").first { $0.contains("web_2") })
    var bytes = try readFile(path)
    bytes[bytes.count / 2] ^= 1
    chmod(path, 0o600)
    try writeSparseFile(path, bytes)
    try bench.save("web/5", incompressibleRAM(40, seed: 5), vm: "web", on: host)
    let pushed = try host.run("push", "--all")
    #expect(!pushed.succeeded, "\(pushed)")
    #expect(try names(host) == ["db/1", "web/1", "web/3", "web/4", "web/5"])
    try host.succeed("remote", "delete", "web/2")
    try host.succeed("push", "--all")
    #expect(try names(host) == ["db/1", "web/1", "web/2", "web/3", "web/4", "web/5"])
    try host.succeed("remote", "gc")
    #expect(try host.run("remote", "check").succeeded)
  }

  @Test("a snapshot that a wrong clock dated ahead is not the newest for ever")
  func datedAhead() throws {
    let host = try bench.host("one")
    try bench.save("a", incompressibleRAM(40), on: host)
    _ = try SQLiteShell(host.storePath).run(
      "UPDATE snapshot SET started_at = '2199-01-01T00:00:00.000Z', completed_at = '2199-01-01T00:00:01.000Z'"
    )
    try bench.save("b", incompressibleRAM(40, seed: 2), on: host)
    try host.succeed("push", "--all")
    let shown = try host.run("remote", "prune", "--keep-daily", "7", "--dry-run")
    #expect(shown.standardError.contains("1 snapshot that stays is dated later than now"))
    try host.succeed("remote", "prune", "--keep-last", "1")
    #expect(try names(host) == ["b"])
  }

  @Test("no rule is no wish to delete all, and a snapshot that is served from here stays")
  func refusals() throws {
    let host = try pushed()
    let outcome = try host.run("remote", "prune")
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(outcome.standardError.contains("such as --keep-last 7"), "\(outcome)")
    let directory = bench.directory.file("mount")
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let mounted = try host.run("mount", "web/2", directory)
    try #require(mounted.succeeded, "\(mounted)")
    // A mount has a lease while files in it are open.
    let ram = open("\(directory)/by-name/web/2/ram", O_RDONLY | O_CLOEXEC)
    try #require(ram >= 0)
    let result = try host.run("remote", "prune", "--keep-last", "1")
    close(ram)
    expectSuccess(try MountTool.unmountWhenUnused(directory, host))
    #expect(result.standardOutputText.contains("served (lease"), "\(result)")
    #expect(try names(host) == ["db/1", "web/2", "web/4"])
  }
}
