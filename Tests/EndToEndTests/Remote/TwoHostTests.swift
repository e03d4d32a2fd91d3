import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// A VM that moves between two hosts with networks of their own, by a real object store.
@Suite(.serialized, .guest, .enabled(if: NetworkHost.canBeMade, "cannot make network namespaces"))
struct TwoHostTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  @Test(
    "a VM goes on lazily on another host while its own pushes the next snapshot, and a third collects",
    arguments: [TransportPlace.ceph, .seaweedfs]
  )
  func goesOnElsewhere(place: TransportPlace) throws {
    let server = try #require(place.server, "Scripts/test starts it")
    let port = try #require(URL(string: server.endpoint)?.port)
    let address = "s3://\(server.bucket)/hosts/\(UUID().uuidString.lowercased())"
    func host(_ name: String, _ verb: String, _ more: [String] = []) throws -> NetworkHost {
      let host = try NetworkHost(
        name,
        in: directory,
        port: port,
        environment: ["AWS_SHARED_CREDENTIALS_FILE": server.credentials]
      )
      let outcome = try host.start(
        ["remote", verb, address, "--endpoint", server.endpoint] + more
      ).wait()
      guard outcome.succeeded else { throw TestSetupError("\(outcome)") }
      return host
    }
    let one = try host("one", "init", ["--lease-seconds", "120", "--margin-seconds", "2"])
    let two = try host("two", "add")
    let three = try host("three", "add")

    // The guest runs on the first host, and is saved twice there. Garbage for the third to collect.
    let guest = try CountingGuest("guest", in: directory)
    _ = try guest.waitForCounts(2)
    try one.succeed("save", "qemu:\(guest.monitorPath)", "--name", "live/1", "--vm", "live")
    let before = guest.counts()
    try one.succeed("push", "live/1")
    _ = try guest.waitForMore(2)
    try one.succeed("save", "qemu:\(guest.monitorPath)", "--name", "live/2", "--vm", "live")
    try guest.kill()
    let ram = directory.file("other.ram")
    try writeSparseFile(ram, incompressibleRAM(3000))
    try three.succeed("save", ram, "--name", "other", "--vm", "other")
    try three.succeed("push", "other")
    try three.succeed("remote", "delete", "other")

    try two.succeed("remote", "fetch", "live/1")
    #expect(try SQLiteShell(two.tool.storePath).integer("SELECT count(*) FROM chunk_data") < 100)
    let push = try one.start(["push", "live/2", "--limit-rate", "64K"])
    let collect = try three.start(["remote", "gc", "--json"])
    let console = try directory.subdirectory("resumed")
    let resumed = try two.start(
      ["resume", "live/1", "--lazy", "postcopy", "--trust-command"],
      environment: ["VMCKPT_WORKING_DIRECTORY": console]
    )
    defer {
      for child in [push, collect, resumed] where child.isRunning {
        child.send(SIGTERM)
        _ = try? child.wait()
      }
    }
    try waitUntil("the guest goes on, on the other host") {
      guard resumed.isRunning else { throw TestSetupError("\(try resumed.wait())") }
      return CountingGuest.counts(console: "\(console)/console").count >= 5
    }
    let after = CountingGuest.counts(console: "\(console)/console")
    // It went on counting on the first host after it was captured.
    #expect(after.areOne(with: before, slack: 500), "\(before) \(after)")
    let pushed = try push.wait(timeoutSeconds: 600)
    #expect(pushed.succeeded, "\(pushed)")
    let collected = try collect.wait(timeoutSeconds: 600)
    #expect(collected.succeeded, "\(collected)")
    #expect(try #require(collected.jsonObject()["freed_packs"] as? Int) > 0)
    // It goes on once more, with what the collection has left.
    let count = CountingGuest.counts(console: "\(console)/console").count
    try waitUntil("the guest still goes on") {
      CountingGuest.counts(console: "\(console)/console").count >= count + 3
    }
    resumed.send(SIGTERM)
    let ended = try resumed.wait()
    #expect(ended.ending == .exit(0), "\(ended)")

    // What the first host pushed meanwhile is whole, and is the same elsewhere.
    try two.succeed("pull", "live/2", "live/1")
    for name in ["live/1", "live/2"] {
      #expect(
        try two.tool.restored(name, in: directory) == one.tool.restored(name, in: directory)
      )
    }
    try three.succeed("remote", "check", "--read-data", "100")
    #expect(try two.tool.verify().succeeded)
    try one.succeed("remote", "delete", "live/1", "live/2")
    try one.succeed("remote", "gc")
  }
}
