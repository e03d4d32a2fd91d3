import Foundation
import Testing
import VMCheckpointTestSupport

/// `vmckpt push --all`, which timers run.
@Suite struct PushAllTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// The names that a push has pushed.
  private func pushed(_ tool: VMCkptTool, _ options: String...) throws -> [String] {
    let answer = try tool.start(["push", "--all", "--json"] + options).wait().jsonObject()
    return try #require(answer["snapshots"] as? [[String: Any]]).compactMap {
      $0["name"] as? String
    }
  }

  @Test("what the remote does not have goes there in the order of saving, and nothing twice")
  func pushesWhatIsMissing() throws {
    let host = try bench.host("one")
    try bench.save("second-by-name", incompressibleRAM(40), on: host)
    try bench.save("first-by-name", incompressibleRAM(40, seed: 2), on: host)
    try bench.save("other", incompressibleRAM(40, seed: 3), vm: "db", on: host)
    try host.succeed("push", "other")
    #expect(try pushed(host) == ["second-by-name", "first-by-name"])
    #expect(try pushed(host).isEmpty)
    #expect(try host.succeed("push", "--all").standardOutputText == "Nothing was pushed\n")
    let other = try bench.host("two")
    for name in ["second-by-name", "first-by-name", "other"] { try other.succeed("pull", name) }
    #expect(try other.verify().succeeded)
  }

  @Test("--vm pushes that VM's snapshots only")
  func oneVM() throws {
    let host = try bench.host("one")
    try bench.save("a", incompressibleRAM(40), vm: "web", on: host)
    try bench.save("b", incompressibleRAM(40, seed: 2), vm: "db", on: host)
    #expect(try pushed(host, "--vm", "db") == ["b"])
    #expect(try pushed(host) == ["a"])
  }

  @Test("a name that another host's snapshot has there stops no other push, and is an error")
  func takenName() throws {
    let (one, two) = (try bench.host("one"), try bench.host("two"))
    try bench.save("nightly", incompressibleRAM(40), on: one)
    try one.succeed("push", "nightly")
    try bench.save("nightly", incompressibleRAM(40, seed: 2), on: two)
    try bench.save("later", incompressibleRAM(40, seed: 3), on: two)
    let outcome = try two.run("push", "--all")
    #expect(outcome.ending == .exit(73), "\(outcome)")
    #expect(outcome.standardError.contains("1 of 2 snapshots could not be pushed"), "\(outcome)")
    // What was pushed is not kept from the user.
    #expect(outcome.standardOutputText.contains("Pushed later to origin"), "\(outcome)")
    try one.succeed("pull", "later")
  }

  @Test("of several names one that is taken there keeps no other from being pushed")
  func takenNameOfSeveral() throws {
    let (one, two) = (try bench.host("one"), try bench.host("two"))
    try bench.save("nightly", incompressibleRAM(40), on: one)
    try one.succeed("push", "nightly")
    try bench.save("nightly", incompressibleRAM(40, seed: 2), on: two)
    try bench.save("later", incompressibleRAM(40, seed: 3), on: two)
    let outcome = try two.run("push", "nightly", "later", "--json")
    #expect(outcome.ending == .exit(73), "\(outcome)")
    let answer = try outcome.jsonObject()
    let names = { (key: String) in
      (answer[key] as? [[String: Any]])?.compactMap { $0["name"] as? String }
    }
    #expect(names("snapshots") == ["later"] && names("refused") == ["nightly"], "\(outcome)")
    #expect(outcome.standardError.contains("cannot-create"), "\(outcome)")
    try one.succeed("pull", "later")
    // One that is not in the store is an error before anything is pushed.
    try bench.save("last", incompressibleRAM(40, seed: 4), on: two)
    #expect(try two.run("push", "last", "nope").ending == .exit(66))
    #expect(try one.run("pull", "last").ending == .exit(66))
    // Alone it is an error without a result.
    let alone = try two.run("push", "nightly")
    #expect(alone.ending == .exit(73) && alone.standardOutput.isEmpty, "\(alone)")
  }

  @Test("where no snapshot can be pushed, the result has the reason of each")
  func allRefused() throws {
    let (one, two) = (try bench.host("one"), try bench.host("two"))
    for (seed, host) in [one, two].enumerated() {
      for name in ["a", "b"] {
        try bench.save(name, incompressibleRAM(20, seed: UInt64(seed * 2 + 1)), on: host)
      }
    }
    try one.succeed("push", "--all")
    let outcome = try two.run("push", "--all", "--json")
    #expect(outcome.ending == .exit(73), "\(outcome)")
    let refused = try #require(try outcome.jsonObject()["refused"] as? [[String: Any]])
    #expect(refused.map { $0["name"] as? String } == ["a", "b"])
    #expect(
      refused.allSatisfy { ($0["message"] as? String)?.contains("has another snapshot") == true }
    )
    let text = try two.run("push", "--all")
    #expect(text.standardOutput.isEmpty, "\(text)")
    #expect(text.standardError.contains("2 of 2 snapshots could not be pushed"), "\(text)")
  }

  @Test(
    "a snapshot that is deleted in the remote meanwhile, whose pages are not here, stops no push"
  )
  func deletedMeanwhile() throws {
    let server = try MockObjectStore()
    let credentials = ["AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"]
    func run(_ tool: VMCkptTool, _ arguments: String...) throws -> ProcessOutcome {
      try ChildProcess(tool.commandLine(arguments), environment: credentials).wait()
    }
    func host(_ name: String, _ verb: String) throws -> VMCkptTool {
      let tool = try VMCkptTool(storePath: bench.directory.file("\(name).db"))
      let address = "s3://\(server.bucket)/fleet"
      let outcome = try run(tool, "remote", verb, address, "--endpoint", server.endpoint)
      try #require(outcome.succeeded, "\(outcome)")
      return tool
    }
    let one = try host("one", "init")
    try bench.save("a", incompressibleRAM(40), on: one)
    #expect(try run(one, "push", "a").succeeded)
    let two = try host("two", "add")
    #expect(try run(two, "remote", "fetch").succeeded)
    try bench.save("b", incompressibleRAM(40, seed: 2), on: two)
    // A recording that the remote does not have, of a snapshot whose pages are only there.
    try SQLiteShell(two.storePath).run(
      """
      CREATE TABLE working_set (snapshot_id INTEGER NOT NULL PRIMARY KEY REFERENCES snapshot (id)
        ON DELETE CASCADE, door TEXT NOT NULL, recorded_at TEXT NOT NULL,
        duration_seconds REAL NOT NULL) STRICT;
      CREATE TABLE working_set_run (snapshot_id INTEGER NOT NULL, position INTEGER NOT NULL,
        first_pfn INTEGER NOT NULL, page_count INTEGER NOT NULL,
        PRIMARY KEY (snapshot_id, position)) STRICT, WITHOUT ROWID;
      INSERT INTO feature VALUES ('working-sets', 'writer');
      INSERT INTO working_set SELECT id, 'uffd', '2099-01-01T00:00:00.000Z', 1.0
        FROM snapshot WHERE name = 'a';
      INSERT INTO working_set_run SELECT snapshot_id, 0, 3, 1 FROM working_set;
      """
    )
    // A collection has condemned its packs; the list of all manifests still has it, and that of its own a moment later
    // does not.
    let key = try #require(server.keys("fleet/snapshots/").first)
    let manifest = try #require(server.object(key))
    #expect(try run(one, "remote", "delete", "a").succeeded)
    #expect(try run(one, "remote", "gc").succeeded)
    server.setObject(key, manifest)
    server.setFault { request in
      guard let prefix = request.query["prefix"], prefix.contains("snapshots/"),
        !prefix.hasSuffix("snapshots/")
      else { return nil }
      return .body("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    }
    let outcome = try run(two, "push", "--all")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.standardOutputText.contains("Pushed b"), "\(outcome)")
  }

  @Test("a snapshot whose pages are not here is passed over with a word on how to get them")
  func onlyFetched() throws {
    let one = try bench.host("one")
    try bench.save("a", incompressibleRAM(40), on: one)
    try one.succeed("push", "a")
    let two = try bench.host("two")
    try two.succeed("remote", "fetch")
    let second = "file://\(bench.directory.file("second"))"
    try two.succeed("remote", "init", second, "--name", "second")
    try bench.save("b", incompressibleRAM(40, seed: 2), on: two)
    let outcome = try two.run("push", "--all", "--to", "second")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.standardError.contains("vmckpt pull"), "\(outcome)")
    try two.succeed("pull", "a")
    #expect(try pushed(two, "--to", "second") == ["a"])
  }

  @Test(
    "contradictions are usage errors",
    arguments: [[], ["--all", "a"], ["--vm", "web", "a"]]
  )
  func usage(arguments: [String]) throws {
    let host = try bench.host("one")
    #expect(try host.start(["push"] + arguments).wait().ending == .exit(64))
  }
}
