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
    try one.succeed("pull", "later")
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
