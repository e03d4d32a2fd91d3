import Foundation
import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Remotes that are damaged, hostile, copied, or not what a store says.
@Suite struct RemoteDamageTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// A remote with one snapshot; returns the host.
  private func pushed(_ ram: [UInt8] = incompressibleRAM(300)) throws -> VMCkptTool {
    let host = try bench.host("one")
    try bench.save("first", ram, on: host)
    try host.succeed("push", "first")
    return host
  }

  private func flip(_ path: String, at offset: Int) throws {
    var bytes = try readFile(path)
    bytes[offset < 0 ? bytes.count + offset : offset] ^= 0x40
    let file = try #require(fopen(path, "r+"))
    defer { fclose(file) }
    #expect(fwrite(bytes, 1, bytes.count, file) == bytes.count)
  }

  @Test("a page that is not what was pushed is never stored", arguments: [100, 500_000])
  func damagedPack(offset: Int) throws {
    let host = try pushed()
    try flip(bench.packs[0], at: offset)
    let other = try bench.host("two")
    let outcome = try other.run("pull", "first")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(try other.verify().succeeded)
    let check = try host.run("remote", "check", "--read-data", "100")
    #expect(check.ending == .exit(65) && check.standardOutputText.contains("SHA-256"), "\(check)")
    #expect(try host.run("remote", "check").succeeded, "footers are whole")
  }

  @Test(
    "a chunk that is damaged in the store is never pushed",
    arguments: [
      "UPDATE chunk_data SET data = zeroblob(length(data))",
      "UPDATE chunk SET digests = zeroblob(length(digests)), fingerprints = zeroblob(length(fingerprints))",
    ]
  )
  func damagedChunk(damage: String) throws {
    let host = try bench.host("one")
    try bench.save("first", incompressibleRAM(300), on: host)
    let sql = SQLiteShell(host.storePath)
    let chunkID = try sql.integer("SELECT max(id) FROM chunk")
    let column = damage.hasPrefix("UPDATE chunk_data") ? "chunk_id" : "id"
    try sql.run("\(damage) WHERE \(column) = \(chunkID)")
    let outcome = try host.run("push", "first")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("chunk \(chunkID)"), "\(outcome)")
    #expect(bench.packs.isEmpty && bench.objects("snapshots").isEmpty)
  }

  @Test(
    "damaged lists and manifests are errors, not crashes, and no snapshot is made of them",
    arguments: ["packs", "snapshots", "remote.json"]
  )
  func damagedObjects(name: String) throws {
    _ = try pushed()
    let object = bench.objects(name)[0]
    let whole = try readFile(object)
    let other = try bench.host("two")
    var generator = TestGenerator(seed: 3)
    for round in 0..<soakRounds(24) {
      var bytes = whole
      switch round % 3 {
      case 0: bytes.removeLast(generator.int(1...min(bytes.count, 4000)))
      case 1: bytes[generator.int(max(0, bytes.count - 600)...(bytes.count - 1))] ^= 1 << 3
      default: bytes[generator.int(0...min(200, bytes.count - 1))] ^= 1 << 6
      }
      unlink(object)
      try writeFile(object, bytes)
      let outcome = try other.run("pull", "first")
      #expect(outcome.endedOrderly, "\(outcome)")
      if outcome.succeeded { continue }
      // Of a pack the list may be whole, and a chunk not: then the facts are here, and no page.
      #expect(try name == "packs" || other.snapshotNames().isEmpty, "round \(round)")
    }
    #expect(try other.verify().succeeded)
  }

  @Test("a pack that is gone is named, and what a store has stays readable")
  func lostPack() throws {
    let host = try pushed()
    let other = try bench.host("two")
    try other.succeed("remote", "fetch", "first")
    for pack in bench.packs { unlink(pack) }
    let outcome = try other.run("pull", "first")
    #expect(outcome.ending == .exit(66), "\(outcome)")
    #expect(outcome.standardError.contains("gone"), "\(outcome)")
    let check = try host.run("remote", "check")
    #expect(check.ending == .exit(65), "\(check)")
    #expect(try host.restored("first", in: bench.directory) == incompressibleRAM(300))
  }

  @Test("a collection of a copied remote deletes nothing, and adopt makes it count again")
  func copiedRemote() throws {
    let host = try pushed()
    try host.succeed("remote", "gc")
    let copy = bench.directory.file("copy")
    let copied = try run(["/bin/cp", "-r", bench.folder, copy])
    try #require(copied.succeeded)
    let removed = try run(["/bin/rm", "-r", "\(copy)/~vmckpt"])
    try #require(removed.succeeded)
    try host.succeed("remote", "add", "file://\(copy)", "--name", "copy")
    #expect(
      (try host.json("remote", "show", "--remote", "copy")["snapshots"] as? [Any])?.isEmpty == true
    )
    let refused = try host.run("remote", "gc", "--remote", "copy")
    #expect(refused.ending == .exit(69), "\(refused)")
    #expect(refused.standardError.contains("remote adopt"), "\(refused)")
    // What a collection refuses is not sound, and a dry run does not promise to free it.
    #expect(try host.run("remote", "gc", "--dry-run", "--remote", "copy").ending == .exit(69))
    let check = try host.run("remote", "check", "--remote", "copy")
    #expect(check.ending == .exit(65), "\(check)")
    #expect(check.standardOutputText.contains("1 of 1 manifest does not count"), "\(check)")
    #expect(check.standardOutputText.contains("vmckpt remote adopt"), "\(check)")
    let answer = try host.start(["remote", "check", "--remote", "copy", "--json"]).wait()
      .jsonObject()
    #expect(answer["sound"] as? Bool == false && answer["void_manifests"] as? Int == 1, "\(answer)")
    let packs = try run(["/usr/bin/find", "\(copy)/packs", "-type", "f"])
    #expect(packs.standardOutputText.split(separator: "\n").count == bench.packs.count)
    #expect(try host.json("remote", "adopt", "--remote", "copy")["adopted"] as? Int == 1)
    try host.succeed("remote", "gc", "--remote", "copy")
    try host.succeed("remote", "check", "--remote", "copy")
    let other = try VMCkptTool(storePath: bench.directory.file("two.db"))
    try other.succeed("remote", "add", "file://\(copy)")
    try other.succeed("pull", "first")
    #expect(try other.restored("first", in: bench.directory) == incompressibleRAM(300))
  }

  @Test("a collection deletes nothing from a remote that was restored while it waited for a push")
  func restoredMeanwhile() throws {
    let host = try pushed()
    try bench.save("lasting", incompressibleRAM(300, seed: 5), on: host)
    try host.succeed("push", "lasting")
    let backup = bench.directory.file("backup")
    try #require(try run(["/bin/cp", "-r", "\(bench.folder)/snapshots", backup]).succeeded)
    let packs = bench.packs
    try host.succeed("remote", "delete", "first")
    // Of a push that is killed the session stays, and collections wait for it.
    try bench.save("next", incompressibleRAM(4000, seed: 6), on: host)
    let push = try host.start(["push", "next", "--limit-rate", "1M"])
    let sessions = "\(bench.folder)/sessions"
    try waitUntil("its session is there") { !directoryEntries(sessions).isEmpty }
    push.send(SIGKILL)
    #expect(try push.wait().ending == .signal(SIGKILL))

    let collection = try host.start(["remote", "gc"])
    try waitUntil("packs are condemned") { !directoryEntries("\(bench.folder)/gc").isEmpty }
    // The backup still has the first snapshot, and none of the times.
    try #require(try run(["/bin/cp", "-r", "\(backup)/.", "\(bench.folder)/snapshots"]).succeeded)
    let times = "\(bench.folder)/~vmckpt/times/snapshots"
    try #require(try run(["/bin/rm", "-r", times]).succeeded)
    for session in directoryEntries(sessions) { unlink("\(sessions)/\(session)") }
    let refused = try collection.wait()
    #expect(refused.ending == .exit(69), "\(refused)")
    #expect(refused.standardError.contains("remote adopt"), "\(refused)")
    #expect(Set(packs).isSubset(of: bench.packs))

    #expect(try host.json("remote", "adopt")["adopted"] as? Int == 2)
    try host.succeed("remote", "gc")
    let other = try bench.host("two")
    try other.succeed("pull", "first", "lasting")
    #expect(try other.restored("first", in: bench.directory) == incompressibleRAM(300))
  }

  @Test("a store that another user made gets nothing from this one before the remote is confirmed")
  func strangersStore() throws {
    let host = try pushed()
    let home = bench.directory.file("stranger")
    func stranger(_ arguments: String...) throws -> ProcessOutcome {
      try run(host.commandLine(arguments), environment: ["XDG_STATE_HOME": home])
    }
    try #require(mkdir(home, 0o700) == 0)
    let refused = try stranger("remote", "show")
    #expect(refused.ending == .exit(77), "\(refused)")
    #expect(refused.standardError.contains("--confirm-remote"), "\(refused)")
    #expect(try stranger("remote", "show", "--confirm-remote").succeeded)
    #expect(try stranger("remote", "show").succeeded)
  }

  @Test("two snapshots of one name are not mixed up, in the remote or here")
  func sameNames() throws {
    let host = try pushed()
    let other = try bench.host("two")
    try bench.save("first", sampleRAM(50, seed: 8), on: other)
    let push = try other.run("push", "first")
    #expect(push.ending == .exit(73), "\(push)")
    let pull = try other.run("pull", "first")
    #expect(pull.ending == .exit(73) && pull.standardError.contains("--name"), "\(pull)")
    try other.succeed("pull", "first", "--name", "theirs")
    #expect(try other.restored("theirs", in: bench.directory) == incompressibleRAM(300))
    #expect(try other.restored("first", in: bench.directory) == sampleRAM(50, seed: 8))
    #expect(try host.run("remote", "forget", "origin").succeeded)
    let fetched = try bench.host("three")
    try fetched.succeed("remote", "fetch")
    let refused = try fetched.run("remote", "forget", "origin")
    #expect(refused.ending == .exit(75), "\(refused)")
    #expect(try fetched.run("remote", "forget", "origin", "--force").succeeded)
  }

  @Test("a manifest whose SHA-256s are not SHA-256s is named, and not what SQLite thinks of it")
  func impossibleDigest() throws {
    let host = try bench.host("one")
    let state = bench.directory.file("state")
    try writeFile(state, "a device's state")
    try bench.save("first", sampleRAM(50), ["--device-state", "dev=\(state)"], on: host)
    try host.succeed("push", "first")
    let path = bench.objects("snapshots")[0]
    var bytes = try readFile(path)
    let headByteCount = try Manifest.headByteCount(bytes[...], title: path)
    let key = Array("\"sha256\":\"".utf8)
    let start = try #require(
      (0..<headByteCount).first { bytes[$0...].starts(with: key) }
    )
    // As long as it was, so that only this is wrong.
    let shorter = Array("\"sha256\":\"abcd\"".utf8)
    let end = start + key.count + 65
    bytes.replaceSubrange(
      start..<end,
      with: shorter + [UInt8](repeating: UInt8(ascii: " "), count: end - start - shorter.count)
    )
    bytes.replaceSubrange(
      (headByteCount - 32)..<headByteCount,
      with: SHA256Hasher.hash(Array(bytes[..<(headByteCount - 32)]))
    )
    unlink(path)
    try writeFile(path, bytes)
    let other = try bench.host("two")
    let outcome = try other.run("remote", "fetch")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(
      outcome.standardError.contains(
        "the manifest of snapshot \"first\" is damaged: the SHA-256 of device state \"dev\""
      ),
      "\(outcome)"
    )
    #expect(try other.snapshotNames().isEmpty)
  }
}
