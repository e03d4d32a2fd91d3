import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Snapshots that hosts share by real object stores.
@Suite(.slow) struct RemoteServerTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// A host whose commands know the server's credentials.
  private struct Host {
    let tool: VMCkptTool
    let environment: [String: String]

    @discardableResult
    func callAsFunction(_ arguments: String...) throws -> ProcessOutcome {
      let outcome = try run(tool.commandLine(arguments), environment: environment)
      guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
      return outcome
    }
  }

  @Test(
    "a snapshot goes from one host to another by a real server, and comes when it is read",
    arguments: [TransportPlace.ceph, .seaweedfs]
  )
  func throughAServer(place: TransportPlace) throws {
    let server = try #require(place.server, "Scripts/test starts it")
    let address = "s3://\(server.bucket)/hosts/\(UUID().uuidString.lowercased())"
    let environment = ["AWS_SHARED_CREDENTIALS_FILE": server.credentials]
    func host(_ name: String, _ verb: String) throws -> Host {
      let tool = try VMCkptTool(storePath: bench.directory.file("\(name).db"))
      let host = Host(tool: tool, environment: environment)
      try host("remote", verb, address, "--endpoint", server.endpoint)
      return host
    }

    let one = try host("one", "init")
    let (first, second) = (incompressibleRAM(5000), sampleRAM(800, seed: 3))
    try bench.save("first", first, on: one.tool)
    try bench.save("second", second, vm: "b", on: one.tool)
    let pushed = try one("push", "first", "second", "--json").jsonObject()
    for snapshot in try #require(pushed["snapshots"] as? [[String: Any]]) {
      let packCount = try #require(snapshot["packs"] as? Int)
      #expect(try #require(snapshot["put_requests"] as? Int) <= packCount + 6, "\(snapshot)")
    }

    let two = try host("two", "add")
    try two("pull", "first")
    #expect(try two.tool.restored("first", in: bench.directory) == first)
    try two("remote", "fetch")
    let path = bench.directory.file("second.ram")
    try two("restore", "second", "-o", path)
    #expect(try readFile(path) == second)
    #expect(try two.tool.verify().succeeded)

    let checked = try two("remote", "check", "--read-data", "100", "--json").jsonObject()
    #expect(checked["sound"] as? Bool == true && checked["snapshots"] as? Int == 2)
    try one("remote", "delete", "first")
    let freed = try one("remote", "gc", "--json").jsonObject()
    #expect(try #require(freed["freed_packs"] as? Int) > 0)
    #expect(try one("remote", "check", "--json").jsonObject()["snapshots"] as? Int == 1)
    try one("remote", "delete", "second")
    try one("remote", "gc")
  }
}
