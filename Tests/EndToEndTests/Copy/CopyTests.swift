import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Snapshots that go from one store into another on the same machine.
@Suite struct CopyTests {
  private let bench: Workbench
  private let other: VMCkptTool

  init() throws {
    bench = try Workbench()
    other = try VMCkptTool(storePath: bench.directory.file("other.db"))
  }

  private var otherSQL: SQLiteShell { SQLiteShell(other.storePath) }

  /// What `show --json` says of a snapshot that is the same in every store.
  private func facts(_ reference: String, _ tool: VMCkptTool) throws -> NSDictionary {
    var shown = try tool.json("show", reference)
    for key in ["working_set", "unique_pages"] { shown[key] = nil }
    for key in shown.keys where key.contains("shared") || key.hasPrefix("unique") {
      shown[key] = nil
    }
    return shown as NSDictionary
  }

  private func copied(_ arguments: String...) throws -> [[String: Any]] {
    let outcome = try bench.tool.start(
      ["copy"] + arguments + ["--to", other.storePath, "--json"]
    ).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return try #require(outcome.jsonObject()["snapshots"] as? [[String: Any]])
  }

  /// That the other store is sound, and has each page of its snapshots once and no other.
  private func expectSound(_ comment: Comment? = nil) throws {
    let verified = try other.verify()
    #expect(verified.succeeded, "\(verified)")
    let (stored, named) = try otherSQL.pageCounts()
    #expect(stored == named, comment)
  }

  @Test("a copy is the snapshot to the last byte, with all that belongs to it")
  func everythingComes() throws {
    let contents = Data(sampleRAM(1, seed: 77).map { $0 | 1 }).base64EncodedString()
    let overlays = try bench.write(
      "overlays.json",
      """
      {"format": 1, "guest_os_id": "0x8100060100000000", "overlays": [
        {"kind": "hypercall", "pfn": 1, "variant": "vmcall"},
        {"kind": "reference-tsc", "pfn": 5, "tsc_frequency_hz": 2400000000},
        {"kind": "synic-message", "vp": 3, "pfn": 9, "contents": "\(contents)"}]}
      """
    )
    let state = try bench.write("state", String(repeating: "device state ", count: 1000))
    let ram = sampleRAM(600)
    try bench.save("web/1", ram, "--vm", "web", "--tag", "a=b")
    try bench.save(
      "web/2",
      ram + sampleRAM(100, seed: 5),
      "--vm",
      "web",
      "--overlays",
      overlays,
      "--device-state",
      "dev=\(state),format=f,version=3"
    )
    // The child is named first, and finds its parent all the same.
    let results = try copied("web/2", "web/1")
    #expect(results.map { $0["name"] as? String } == ["web/1", "web/2"])
    #expect(results.allSatisfy { $0["was_there"] as? Bool == false })
    for name in ["web/1", "web/2"] {
      #expect(try facts(name, other) == facts(name, bench.tool))
      #expect(try other.restored(name, in: bench.directory) == bench.restore(name))
      #expect(
        try other.restored(name, "--overlays", "omit", in: bench.directory)
          == bench.tool.restored(name, "--overlays", "omit", in: bench.directory)
      )
    }
    try expectSound()
    var status = stat()
    #expect(stat(other.storePath, &status) == 0 && status.st_mode & 0o777 == 0o600)
    #expect(try copied("latest", "web/1").allSatisfy { $0["was_there"] as? Bool == true })
    let text = try bench.tool.succeed("copy", "web/1", "--to", other.storePath).text
    #expect(text == "Not copied web/1 to \(other.storePath): it is there already\n")
  }

  @Test("a name that is taken is refused, and another one helps")
  func takenName() throws {
    try bench.save("one", sampleRAM(50))
    let path = try bench.write("mine.ram", sampleRAM(40, seed: 4))
    try other.succeed("save", path, "--name", "one")
    let refused = try bench.tool.run("copy", "one", "--to", other.storePath)
    #expect(refused.ending == .exit(73) && refused.standardError.contains("--name"), "\(refused)")
    #expect(try other.snapshotNames() == ["one"])
    #expect(try copied("one", "--name", "theirs").first?["name"] as? String == "theirs")
    #expect(try other.restored("theirs", in: bench.directory) == sampleRAM(50))
    #expect(try other.restored("one", in: bench.directory) == sampleRAM(40, seed: 4))
    try expectSound()
    let itself = try bench.tool.run("copy", "one", "--to", bench.storePath)
    #expect(itself.ending == .exit(73), "\(itself)")
    let none = bench.directory.file("none.db")
    #expect(try bench.tool.run("copy", "nobody", "--to", none).ending == .exit(66))
    #expect(!exists(none))
  }

  @Test("any copies in any order leave what saving anew leaves: each page once, and no other's")
  func asSavedAnew() throws {
    var generator = TestGenerator(seed: 18)
    for round in 0..<soakRounds(6) {
      let bench = try Workbench()
      let other = try VMCkptTool(storePath: bench.directory.file("other.db"))
      // Pages of few contents, so that snapshots share them in all ways.
      func image() -> [UInt8] {
        (0..<generator.int(20...300)).flatMap { _ in
          let seed = generator.int(0...400)
          return seed < 40
            ? [UInt8](repeating: 0, count: 4096)
            : incompressibleRAM(1, seed: UInt64(seed))
        }
      }
      var images: [String: [UInt8]] = [:]
      for number in 0..<5 {
        images["s\(number)"] = image()
        try bench.save("s\(number)", images["s\(number)"]!)
      }
      if round % 2 == 1 { try bench.tool.succeed("delete", "s0") }
      if round % 3 == 2 { try bench.tool.succeed("optimize") }
      var present: [String: [UInt8]] = [:]
      if round % 2 == 0 {
        present["own"] = image()
        let path = try bench.write("own.ram", present["own"]!)
        try other.succeed("save", path, "--name", "own")
      }
      for name in images.keys.sorted().shuffled(using: &generator).prefix(3)
      where name != "s0" || round % 2 == 0 {
        try bench.tool.succeed("copy", name, "--to", other.storePath)
        present[name] = images[name]
        let anew = try VMCkptTool(storePath: bench.directory.file("anew.db"))
        for (name, ram) in present {
          let path = try bench.write("anew.ram", ram)
          try anew.succeed("save", path, "--name", name)
        }
        let (saved, copied) = (SQLiteShell(anew.storePath), SQLiteShell(other.storePath))
        let query = "SELECT count(*), count(DISTINCT digest) FROM chunk_page"
        #expect(try copied.run(query) == saved.run(query), "round \(round), \(name)")
        for (name, ram) in present {
          #expect(try other.restored(name, in: bench.directory) == ram, "round \(round), \(name)")
        }
        unlink(anew.storePath)
      }
      let verified = try other.verify()
      #expect(verified.succeeded, "round \(round): \(verified)")
    }
  }

  @Test("a page that is not what its SHA-256 says does not come into the other store")
  func lyingStore() throws {
    try bench.save("one", incompressibleRAM(32))
    // Data and fingerprints of two chunks are exchanged: they agree with each other.
    try bench.sql.run(
      """
      CREATE TEMP TABLE was AS SELECT id, fingerprints, data FROM chunk JOIN chunk_data ON chunk_id = id;
      UPDATE chunk SET fingerprints = (SELECT fingerprints FROM was WHERE was.id = 3 - chunk.id);
      UPDATE chunk_data SET data = (SELECT data FROM was WHERE was.id = 3 - chunk_id);
      """
    )
    let outcome = try bench.tool.run("copy", "one", "--to", other.storePath)
    #expect(outcome.ending == .exit(65) && outcome.standardError.contains("SHA-256"), "\(outcome)")
    #expect(try other.snapshotNames().isEmpty)
    #expect(try otherSQL.integer("SELECT count(*) FROM chunk") == 0)
  }

  @Test("a store that may only be read can be copied from")
  func readOnly() throws {
    guard OtherUser.isThere else { return }
    let ram = sampleRAM(64)
    try bench.save("one", ram)
    for path in [bench.storePath, bench.storePath + "-lock"] where exists(path) {
      try OtherUser.own(path)
      #expect(chmod(path, 0o400) == 0)
    }
    let target = bench.directory.file("theirs")
    #expect(mkdir(target, 0o755) == 0 && chmod(bench.directory.path, 0o755) == 0)
    try OtherUser.own(target)
    let store = "\(target)/store.db"
    let outcome = try run(
      OtherUser.commandLine(bench.tool.commandLine(["copy", "one", "--to", store]))
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(try VMCkptTool(storePath: store).restored("one", in: bench.directory) == ram)
  }

  @Test("a snapshot whose pages are in a remote is copied with all of them")
  func fetchedOnly() throws {
    let remote = try RemoteBench()
    let ram = sampleRAM(300)
    let host = try remote.host("one")
    try remote.save("first", ram, on: host)
    try host.succeed("push", "first")
    let fetched = try remote.host("two")
    try fetched.succeed("remote", "fetch")
    try fetched.succeed("copy", "first", "--to", other.storePath)
    #expect(try other.restored("first", in: bench.directory) == ram)
    #expect(try other.json("verify")["remote_chunks"] as? Int == 0)
    // Where the remote is gone, nothing is made.
    let third = try remote.host("three")
    try third.succeed("remote", "fetch")
    try FileManager.default.removeItem(atPath: remote.folder)
    let none = bench.directory.file("none.db")
    let outcome = try third.run("copy", "first", "--to", none)
    #expect(!outcome.succeeded && !exists(none), "\(outcome)")
  }

  @Test("a copy that is killed or interrupted leaves both stores sound", .slow)
  func killed() throws {
    let (first, second) = (incompressibleRAM(6000), sampleRAM(9000, seed: 3))
    try bench.save("first", first)
    try bench.save("second", second)
    let path = try bench.write("own.ram", sampleRAM(1000))
    try other.succeed("save", path, "--name", "own")
    var generator = TestGenerator(seed: 7)
    let start = monotonicSeconds()
    let sample = try VMCkptTool(storePath: bench.directory.file("sample.db"))
    try bench.tool.succeed("copy", "first", "second", "--to", sample.storePath)
    // The shortest of the complete runs: other tests run at the same time.
    var durationSeconds = monotonicSeconds() - start
    var killCount = 0
    for round in 0..<soakRounds(12) {
      let signal = round % 2 == 0 ? SIGKILL : SIGINT
      let child = try bench.tool.start(["copy", "first", "second", "--to", other.storePath])
      usleep(UInt32(generator.int(0...Int(durationSeconds * 900_000))))
      child.send(signal)
      let outcome = try child.wait()
      if outcome.ending == .signal(signal) { killCount += 1 }
      if outcome.succeeded { durationSeconds = min(durationSeconds, outcome.durationSeconds) }
      let names = try other.snapshotNames()
      #expect(names.contains("own"))
      for (name, ram) in [("first", first), ("second", second)] where names.contains(name) {
        #expect(try other.restored(name, in: bench.directory) == ram, "round \(round)")
        try other.succeed("delete", name)
      }
      let verified = try other.verify()
      #expect(verified.succeeded, "round \(round): \(verified)")
      if signal == SIGINT { try other.succeed("gc") }
      if round % 4 == 3 {
        try other.succeed("gc")
        try expectSound("round \(round)")
      }
    }
    #expect(killCount > 0)
    try bench.tool.succeed("copy", "first", "second", "--to", other.storePath)
    #expect(try other.restored("first", in: bench.directory) == first)
    #expect(try other.restored("second", in: bench.directory) == second)
    try other.succeed("gc")
    try expectSound()
    #expect(try bench.tool.verify().succeeded)
  }

  @Test("copies both ways, saves and collections at once wait for each other and end", .slow)
  func bothWays() throws {
    try bench.save("here", incompressibleRAM(1500))
    let path = try bench.write("there.ram", sampleRAM(1500, seed: 9))
    try other.succeed("save", path, "--name", "there", "--vm", "there")
    // A deadlock does not end; five others may take longer than the minute that is the default.
    let wait = ["--wait", "250"]
    for round in 0..<3 {
      let children = try [
        bench.tool.start(["copy", "here", "--to", other.storePath] + wait),
        other.start(["copy", "there", "--to", bench.storePath] + wait),
        bench.tool.start(["gc"] + wait),
        other.start(["gc"] + wait),
        other.start(["save", path, "--name", "more-\(round)"] + wait),
        bench.tool.start(["save", path, "--name", "more-\(round)"] + wait),
      ]
      for child in children {
        let outcome = try child.wait()
        #expect(outcome.succeeded, "\(outcome)")
      }
      for tool in [bench.tool, other] {
        #expect(try tool.restored("here", in: bench.directory) == incompressibleRAM(1500))
        #expect(try tool.restored("there", in: bench.directory) == sampleRAM(1500, seed: 9))
        #expect(try tool.verify().succeeded)
      }
      try bench.tool.succeed("delete", "there")
      try other.succeed("delete", "here")
    }
  }

  @Test("a copy that may not wait says who has the other store")
  func noWait() throws {
    try bench.save("one", sampleRAM(20))
    try other.succeed("save", try bench.write("a.ram", sampleRAM(20)), "--name", "a")
    let pipe = try ChildPipe()
    let save = try other.start(["save", "-", "--name", "slow"], input: .descriptor(pipe.reader))
    try pipe.write(incompressibleRAM(600))
    try waitUntil("the save has the store") {
      try other.run("gc", "--no-wait").ending == .exit(75)
    }
    let outcome = try bench.tool.run("copy", "one", "--to", other.storePath, "--no-wait")
    #expect(
      outcome.ending == .exit(75) && outcome.standardError.contains("is in use by"),
      "\(outcome)"
    )
    save.send(SIGKILL)
    _ = try save.wait()
    try bench.tool.succeed("copy", "one", "--to", other.storePath)
  }
}
