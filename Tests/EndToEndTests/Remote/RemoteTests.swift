import Foundation
import Glibc
import Synchronization
import Testing
import VMCheckpointTestSupport

/// Snapshots that hosts share by a remote in a folder.
@Suite struct RemoteTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// What `show --json` says of a snapshot that is the same in every store.
  private func facts(_ reference: String, _ tool: VMCkptTool) throws -> NSDictionary {
    var shown = try tool.json("show", reference)
    for key in ["parent", "working_set", "new_pages", "unique_pages"] { shown[key] = nil }
    for key in shown.keys where key.contains("stored_bytes") || key.contains("shared") {
      shown[key] = nil
    }
    return shown as NSDictionary
  }

  @Test(
    "a snapshot with several names in the remote is deleted by one of them, which the error lists"
  )
  func severalNames() throws {
    let host = try bench.host("one")
    try bench.save("old-name", incompressibleRAM(20), on: host)
    try host.succeed("push", "old-name")
    try SQLiteShell(host.storePath).run("UPDATE snapshot SET name = 'new-name'")
    try host.succeed("push", "new-name")
    let uuid = try #require(try host.json("show", "new-name")["uuid"] as? String)
    let outcome = try host.run("remote", "delete", uuid)
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(outcome.standardError.contains("name one of: new-name, old-name"), "\(outcome)")
    try host.succeed("remote", "delete", "old-name")
    try host.succeed("remote", "delete", uuid)
  }

  @Test("a remote below a folder that is not there is not made, with the exit code for that")
  func missingFolder() throws {
    let tool = try VMCkptTool(storePath: bench.directory.file("one.db"))
    let outcome = try tool.run("remote", "init", "file://\(bench.directory.file("no/such"))")
    #expect(outcome.ending == .exit(73), "\(outcome)")
    #expect(outcome.standardError.contains("make or mount"), "\(outcome)")
  }

  @Test(
    "a list of a VM without snapshots names the VM, and one of anything is said in the singular"
  )
  func wordings() throws {
    let host = try bench.host("one")
    try bench.save("first", incompressibleRAM(20), on: host)
    #expect(try host.succeed("push", "first").standardOutputText.contains("in 1 pack,"))
    #expect(
      try host.run("remote", "show", "--vm", "nope").standardError
        .contains(#"no snapshots of the VM "nope" in the remote"#)
    )
    #expect(try host.succeed("remote", "stats").standardOutputText.contains("1 of 1 VM\n"))
  }

  @Test("a snapshot is the same to the last byte on another host, with all that belongs to it")
  func everythingComes() throws {
    let host = try bench.host("one")
    let ram = sampleRAM(600)
    let contents = Data(sampleRAM(1, seed: 77).map { $0 | 1 }).base64EncodedString()
    let overlays = bench.directory.file("overlays.json")
    try writeFile(
      overlays,
      """
      {"format": 1, "guest_os_id": "0x8100060100000000", "overlays": [
        {"kind": "hypercall", "pfn": 1, "variant": "vmcall"},
        {"kind": "reference-tsc", "pfn": 5, "tsc_frequency_hz": 2400000000},
        {"kind": "synic-message", "vp": 3, "pfn": 9, "contents": "\(contents)"}]}
      """
    )
    let state = bench.directory.file("state")
    try writeFile(state, String(repeating: "device state ", count: 1000))
    try bench.save(
      "web/1",
      ram,
      vm: "web",
      [
        "--overlays", overlays, "--tag", "a=b", "--device-state", "dev=\(state),format=f,version=3",
      ],
      on: host
    )
    let pushed = try host.json("push", "web/1")
    #expect((pushed["snapshots"] as? [[String: Any]])?.first?["was_there"] as? Bool == false)

    let other = try bench.host("two")
    try other.succeed("pull", "web/1")
    #expect(
      try other.restored("web/1", "--overlays", "omit", in: bench.directory)
        == host.restored("web/1", "--overlays", "omit", in: bench.directory)
    )
    #expect(
      try other.restored("web/1", in: bench.directory)
        == host.restored("web/1", in: bench.directory)
    )
    #expect(try facts("web/1", other) == facts("web/1", host))
    #expect(try other.verify().succeeded)
    #expect(try other.run("gc").succeeded)
    #expect(try other.verify().succeeded)
    let again = try other.json("pull", "web/1")
    #expect((again["snapshots"] as? [[String: Any]])?.first?["was_there"] as? Bool == true)
  }

  @Test("what was fetched answers questions before one page has come, and verifies")
  func fetched() throws {
    let host = try bench.host("one")
    let (first, second) = (sampleRAM(400), sampleRAM(400, seed: 2))
    try bench.save("first", first, on: host)
    try bench.save("second", second, on: host)
    try host.succeed("push", "first", "second")

    let other = try bench.host("two")
    try other.succeed("remote", "fetch")
    #expect(try other.snapshotNames() == ["first", "second"])
    let sql = SQLiteShell(other.storePath)
    #expect(try sql.integer("SELECT count(*) FROM chunk_data") == 0)
    #expect(
      try sql.run("SELECT count(*), sum(page_count) FROM ram_extent")
        == SQLiteShell(host.storePath).run("SELECT count(*), sum(page_count) FROM ram_extent")
    )
    func changed(_ tool: VMCkptTool) throws -> NSDictionary? {
      try tool.json("diff", "first", "second")["changed"] as? NSDictionary
    }
    let (here, there) = (try changed(other), try changed(host))
    #expect(here != nil && here == there)
    let verified = try other.json("verify")
    #expect(verified["sound"] as? Bool == true)
    #expect(try #require(verified["remote_chunks"] as? Int) > 0)
    // A save does not rely on what is not here.
    try bench.save("mine", first, vm: "mine", on: other)
    #expect(try other.restored("mine", in: bench.directory) == first)
    try other.succeed("gc")
    try other.succeed("optimize")
    try other.succeed("pull", "first", "second")
    #expect(try other.restored("second", in: bench.directory) == second)
    #expect(try other.restored("first", in: bench.directory) == first)
    #expect(try other.json("verify")["remote_chunks"] as? Int == 0)
  }

  @Test(
    "a snapshot whose pages are not here does not count as verified, and neither does one that came later"
  )
  func unreadPages() throws {
    let host = try bench.host("one")
    try bench.save("first", incompressibleRAM(100), vm: "far", on: host)
    try bench.save("later", incompressibleRAM(100, seed: 3), vm: "late", on: host)
    try host.succeed("push", "first", "later")
    let other = try bench.host("two")
    try bench.save("mine", incompressibleRAM(100, seed: 2), vm: "near", on: other)
    try other.succeed("remote", "fetch", "first")
    func unverified(_ vm: String) throws -> Int? {
      let vms = try other.json("status")["vms"] as? [[String: Any]]
      return vms?.first { $0["vm"] as? String == vm }?["unverified_snapshots"] as? Int
    }
    for options in [["first"], [], ["--part", "1/2"], ["--part", "2/2"]] {
      try #require(other.start(["verify"] + options).wait().succeeded)
      #expect(try unverified("far") == 1, "after verify \(options)")
    }
    #expect(try unverified("near") == 0)
    #expect(try other.json("status")["verified_at"] is String)
    let metrics = try other.succeed("status", "--openmetrics").standardOutputText
    #expect(metrics.contains(#",vm="far"} 1"#), "\(metrics)")
    // What comes after the verification was not read by it, though it is older.
    try other.succeed("pull", "first", "later")
    #expect(try unverified("far") == 1)
    #expect(try unverified("late") == 1)
    try other.succeed("verify")
    #expect(try unverified("far") == 0)
    #expect(try unverified("late") == 0)
  }

  @Test("an older snapshot that came just now is not a VM's last one")
  func lastByTime() throws {
    let (host, other) = (try bench.host("one"), try bench.host("two"))
    try bench.save("older", incompressibleRAM(40), on: host)
    try host.succeed("push", "older")
    try bench.save("newer", incompressibleRAM(20, seed: 2), on: other)
    func last() throws -> [String: Any]? {
      (try other.json("status")["vms"] as? [[String: Any]])?.first
    }
    try other.succeed("pull", "older")
    #expect(try last()?["last_snapshot"] as? String == "newer")
    #expect(try last()?["last_ram_bytes"] as? Int == 20 << 12)
    // Of a clock that ran ahead nothing is known but when its snapshot came.
    let sql = SQLiteShell(other.storePath)
    try sql.run(
      "UPDATE snapshot SET completed_at = '2999-01-01T00:00:00.000Z' WHERE name = 'older'"
    )
    #expect(try last()?["last_snapshot"] as? String == "older")
    try bench.save("newest", incompressibleRAM(20, seed: 3), on: other)
    #expect(try last()?["last_snapshot"] as? String == "newest")
  }

  @Test("a push sends no page that the remote has, whoever pushed it, and few requests")
  func onlyNewPages() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(6000)
    try bench.save("first", ram, on: host)
    let first = try #require((host.json("push", "first")["snapshots"] as? [[String: Any]])?.first)
    #expect(first["sent_pages"] as? Int == 6000)
    let packCount = try #require(first["packs"] as? Int)
    #expect(try #require(first["put_requests"] as? Int) <= packCount + 6, "\(first)")

    // The same pages at other addresses, and some of its own.
    let other = try bench.host("two")
    var shuffled: [UInt8] = []
    for page in 0..<6000 {
      let from = (page * 7) % 6000
      shuffled += ram[(from * 4096)..<(from * 4096 + 4096)]
    }
    shuffled += incompressibleRAM(300, seed: 9)
    try bench.save("other", shuffled, vm: "other", on: other)
    let second = try #require((other.json("push", "other")["snapshots"] as? [[String: Any]])?.first)
    #expect(try #require(second["reused_pages"] as? Int) >= 5940, "\(second)")
    #expect(try #require(second["sent_pages"] as? Int) <= 360, "\(second)")
    #expect(try #require(second["put_requests"] as? Int) <= 1 + 6, "\(second)")

    let third = try bench.host("three")
    try third.succeed("pull", "other", "first")
    #expect(try third.restored("other", in: bench.directory) == shuffled)
    #expect(try third.restored("first", in: bench.directory) == ram)
    #expect(try third.json("remote", "check", "--read-data", "100")["sound"] as? Bool == true)
  }

  @Test("a collection frees what no snapshot needs, and a push sends that again")
  func collection() throws {
    let host = try bench.host("one")
    let (first, second) = (sampleRAM(500), sampleRAM(500, seed: 2))
    try bench.save("first", first, on: host)
    try bench.save("second", second, on: host)
    try host.succeed("push", "first", "second")
    try host.succeed("remote", "delete", "second")
    let dry = try host.json("remote", "gc", "--dry-run")
    #expect(dry["freed_packs"] as? Int == 1)
    let before = bench.packs
    #expect(try host.json("remote", "gc")["freed_packs"] as? Int == 1)
    #expect(bench.packs.count == before.count - 1)
    #expect(try host.json("remote", "check", "--read-data", "100")["sound"] as? Bool == true)
    // This host knows where the pages of "second" were.
    try host.succeed("push", "second")
    let other = try bench.host("two")
    try other.succeed("pull", "first", "second")
    #expect(try other.restored("second", in: bench.directory) == second)
    #expect(try other.restored("first", in: bench.directory) == first)
  }

  @Test("a collection leaves what a push that is under way may need")
  func sessionsAreAwaited() throws {
    let host = try bench.host("one", leaseSeconds: 3600)
    try bench.save("first", incompressibleRAM(24_000), on: host)
    // Killed before its manifest: its session is left. Most of it is still to be sent when the first pack is there.
    let push = try host.start(["push", "first", "--limit-rate", "8M"])
    try waitUntil("a pack is there") { !bench.packs.isEmpty }
    push.send(SIGKILL)
    _ = try push.wait()
    #expect(!bench.objects("sessions").isEmpty)
    let collected = try host.json("remote", "gc", "--leave-waiting")
    #expect(collected["freed_packs"] as? Int == 0)
    #expect(try #require(collected["waiting_packs"] as? Int) > 0)
    for session in bench.objects("sessions") { unlink(session) }
    let count = bench.packs.count
    #expect(try host.json("remote", "gc")["freed_packs"] as? Int == count)
    #expect(bench.packs.isEmpty)
  }

  @Test("a push goes on where a killed one was, and sends no pack twice")
  func killedPush() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(20_000)
    try bench.save("first", ram, on: host)
    var kills = 0
    while kills < 3 {
      let count = bench.packs.count
      let push = try host.start(["push", "first", "--threads", "1", "--limit-rate", "12M"])
      try waitUntil("another pack is there, or the push is done") {
        bench.packs.count > count || !push.isRunning
      }
      guard push.isRunning else { break }
      usleep(50_000)
      push.send(SIGKILL)
      _ = try push.wait()
      kills += 1
      let shown = try host.json("remote", "show")["snapshots"] as? [Any]
      // The signal may come between the manifest and the end: then all of it is there, as is looked at below.
      guard shown?.isEmpty == true else { break }
    }
    #expect(kills > 0)
    try host.succeed("push", "first")
    // 20,000 pages and their frames are less than 80 MiB: a pack may be sent twice that was cut off.
    #expect(bench.packs.count <= 6 + kills, "\(bench.packs.count) packs, \(kills) kills")
    #expect(try host.json("remote", "check", "--read-data", "100")["sound"] as? Bool == true)
    let other = try bench.host("two")
    try other.succeed("pull", "first")
    #expect(try other.restored("first", in: bench.directory) == ram)
  }

  @Test("a pull goes on where a killed one was, and no half of it counts")
  func killedPull() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(12_000)
    try bench.save("first", ram, on: host)
    try host.succeed("push", "first")
    let other = try bench.host("two")
    var generator = TestGenerator(seed: 5)
    for _ in 0..<4 {
      let pull = try other.start(["pull", "first", "--limit-rate", "40M"])
      usleep(UInt32(generator.int(20_000...500_000)))
      pull.send(SIGKILL)
      _ = try pull.wait()
      #expect(try other.verify().succeeded)
      #expect(try other.run("gc").succeeded)
    }
    try other.succeed("pull", "first")
    #expect(try other.restored("first", in: bench.directory) == ram)
    #expect(try other.verify().succeeded)
  }

  @Test("pushes, deletions and collections of several hosts at once lose no snapshot")
  func allAtOnce() throws {
    let names = ["one", "two", "three"]
    let hosts = try names.map { try bench.host($0, leaseSeconds: 2) }
    let base = sampleRAM(300)
    for (index, host) in hosts.enumerated() {
      for round in 0..<soakRounds(4) {
        var ram = base
        ram += incompressibleRAM(40, seed: UInt64(index * 100 + round))
        try bench.save("\(names[index])-\(round)", ram, vm: names[index], on: host)
      }
    }
    let failures = Mutex<[String]>([])
    DispatchQueue.concurrentPerform(iterations: 4) { worker in
      do {
        guard worker < 3 else {
          for _ in 0..<6 {
            _ = try hosts[0].run("remote", "gc")
            usleep(200_000)
          }
          return
        }
        for round in 0..<soakRounds(4) {
          let name = "\(names[worker])-\(round)"
          let outcome = try hosts[worker].run("push", name)
          // A lease of two seconds may end on a busy machine.
          if !outcome.succeeded, outcome.ending != .exit(69) {
            failures.withLock { $0.append("\(outcome)") }
          }
          if round % 2 == 0, outcome.succeeded {
            try hosts[worker].succeed("remote", "delete", name)
          }
        }
      } catch {
        failures.withLock { $0.append("\(error)") }
      }
    }
    #expect(failures.withLock { $0 } == [])
    let check = try hosts[1].json("remote", "check", "--read-data", "100")
    #expect(check["sound"] as? Bool == true, "\(check)")
    let reader = try bench.host("reader")
    try reader.succeed("remote", "fetch")
    for name in try reader.snapshotNames() {
      try reader.succeed("pull", name)
      let owner = try #require(names.firstIndex { name.hasPrefix($0) })
      #expect(
        try reader.restored(name, in: bench.directory)
          == hosts[owner].restored(name, in: bench.directory)
      )
    }
    #expect(try reader.verify().succeeded)
  }

  @Test("a restore of what was only fetched brings the pages, and so does whoever reads a mount")
  func pagesComeWhenTheyAreRead() throws {
    let host = try bench.host("one")
    let (first, second) = (incompressibleRAM(900), sampleRAM(900, seed: 4))
    try bench.save("first", first, vm: "a", on: host)
    try bench.save("second", second, vm: "b", on: host)
    try host.succeed("push", "first", "second")

    let other = try bench.host("two")
    try other.succeed("remote", "fetch")
    #expect(try other.restored("first", in: bench.directory) == first)
    let sql = SQLiteShell(other.storePath)
    let missing = """
      SELECT count(*) FROM chunk c WHERE NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = c.id)
      """
    let before = try sql.integer(missing)
    #expect(before > 0, "the other snapshot's pages are not here")

    let directory = bench.directory.file("mount")
    try #require(mkdir(directory, 0o700) == 0)
    try other.succeed("mount", directory)
    defer { _ = try? other.run("unmount", directory) }
    let path = "\(directory)/by-name/second/ram.bare"
    // One page, far inside: what comes is a part.
    // Not for children of other tests, which would keep the mount in use.
    let file = try #require(fopen(path, "re"))
    var page = [UInt8](repeating: 0, count: 4096)
    #expect(fseek(file, 700 * 4096, SEEK_SET) == 0 && fread(&page, 1, 4096, file) == 4096)
    fclose(file)
    #expect(page == Array(second[(700 * 4096)..<(701 * 4096)]))
    // What came is written a little later.
    try waitUntil("what came is in the store") { try sql.integer(missing) < before }
    #expect(try readFile(path) == second)
    try waitUntil("nothing has the mount open") { try other.run("unmount", directory).succeeded }
    try waitUntil("all of it is in the store") { try sql.integer(missing) == 0 }
    #expect(try other.verify().succeeded)
  }

  @Test("pages that are damaged or gone in the remote are errors for who reads them, never zeros")
  func lostPagesAreNotZeros() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(600)
    try bench.save("first", ram, on: host)
    try host.succeed("push", "first")
    let other = try bench.host("two")
    try other.succeed("remote", "fetch")
    var pack = try readFile(bench.packs[0])
    for offset in stride(from: 100, to: 2_000_000, by: 30_000) { pack[offset] ^= 1 }
    let path = bench.packs[0]
    unlink(path)
    try writeFile(path, pack)
    let target = bench.directory.file("restored.ram")
    let outcome = try other.run("restore", "first", "-o", target)
    #expect(outcome.ending == .exit(65) || outcome.ending == .exit(66), "\(outcome)")
    #expect(!exists(target))
  }
}
