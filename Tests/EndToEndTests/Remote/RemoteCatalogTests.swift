import Foundation
import Testing
import VMCheckpointTestSupport

/// The catalogue that a collection leaves in a remote, and lists read.
@Suite struct RemoteCatalogTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// A remote with two snapshots and a catalogue of them; returns the host.
  private func collected() throws -> VMCkptTool {
    let host = try bench.host("one")
    try bench.save("first", incompressibleRAM(40), on: host)
    try bench.save("second", incompressibleRAM(40, seed: 9), on: host)
    try host.succeed("push", "first", "second")
    try host.succeed("remote", "gc")
    try #require(bench.objects("catalog").count == 1)
    return host
  }

  private func shown(_ host: VMCkptTool) throws -> [[String: Any]] {
    try #require(try host.json("remote", "show")["snapshots"] as? [[String: Any]])
  }

  private func names(_ host: VMCkptTool) throws -> [String] {
    try shown(host).compactMap { $0["name"] as? String }
  }

  /// Overwrites an object with zeros, in place.
  private func spoil(_ path: String) throws {
    try patchFile(path, at: 0, [UInt8](repeating: 0, count: try readFile(path).count))
  }

  @Test("a list reads no manifest that the catalogue tells of, and tells the same")
  func listsWithoutManifests() throws {
    let host = try bench.host("one")
    try bench.save("first", incompressibleRAM(40), ["--tag", "k=v"], on: host)
    try bench.save("second", incompressibleRAM(40, seed: 9), on: host)
    try host.succeed("push", "first", "second")
    let before = try shown(host)
    try host.succeed("remote", "gc")
    let manifests = bench.objects("snapshots")
    #expect(manifests.count == 2)
    for manifest in manifests { try spoil(manifest) }
    #expect(try shown(host) as NSArray == before as NSArray)
    // What is read for its pages is proved all the same.
    let outcome = try bench.host("two").run("pull", "first")
    #expect(outcome.ending == .exit(65), "\(outcome)")
  }

  @Test("snapshots that came after the catalogue are listed, and those that went are not")
  func changesAfterwards() throws {
    let host = try collected()
    try bench.save("third", incompressibleRAM(40, seed: 10), on: host)
    try host.succeed("push", "third")
    #expect(try names(host) == ["first", "second", "third"])
    try host.succeed("remote", "delete", "second")
    #expect(try names(host) == ["first", "third"])
    let other = try bench.host("two")
    #expect(try other.run("pull", "second").ending == .exit(66))
    try other.succeed("pull", "third")
    let old = bench.objects("catalog")
    try host.succeed("remote", "gc")
    #expect(bench.objects("catalog").count == 1)
    #expect(bench.objects("catalog") != old)
    #expect(try names(host) == ["first", "third"])
    let same = bench.objects("catalog")
    try host.succeed("remote", "gc")
    #expect(bench.objects("catalog") == same, "nothing has changed")
  }

  @Test("a catalogue that is damaged is said, and nothing is missing from the list")
  func damaged() throws {
    let host = try collected()
    try spoil(bench.objects("catalog")[0])
    let outcome = try host.run("remote", "show")
    #expect(outcome.succeeded && outcome.standardError.contains("catalog/"), "\(outcome)")
    #expect(try names(host) == ["first", "second"])
    try host.succeed("remote", "gc")
    #expect(try host.run("remote", "show").standardError == "")
  }

  @Test("a snapshot is found by its name with one manifest read, however many there are")
  func findsByName() throws {
    let host = try bench.host("one")
    for index in 1...4 {
      try bench.save("web/\(index)", incompressibleRAM(8, seed: UInt64(index)), on: host)
      try host.succeed("push", "web/\(index)")
    }
    let other = try bench.host("two")
    for manifest in bench.objects("snapshots") where !manifest.contains("/web_3-") {
      try spoil(manifest)
    }
    let outcome = try other.run("pull", "web/3")
    #expect(outcome.succeeded && outcome.standardError == "", "\(outcome)")
  }

  @Test("a copy of a remote does not tell snapshots by the catalogue that count no more")
  func copied() throws {
    let host = try collected()
    let copy = bench.directory.file("copy")
    try #require(try run(["/bin/cp", "-r", bench.folder, copy]).succeeded)
    try #require(try run(["/bin/rm", "-r", "\(copy)/~vmckpt"]).succeeded)
    try host.succeed("remote", "add", "file://\(copy)", "--name", "copy")
    let shown = try host.json("remote", "show", "--remote", "copy")["snapshots"] as? [Any]
    #expect(shown?.isEmpty == true)
  }
}
