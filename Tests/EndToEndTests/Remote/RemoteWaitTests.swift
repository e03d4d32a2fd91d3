import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Who waits for a remote, and who does not; and what grows in one with time.
@Suite struct RemoteWaitTests {
  private let bench: RemoteBench

  init() throws { bench = try RemoteBench() }

  /// The lock of the remote's folder, without which nothing can be put there.
  private final class FolderLock {
    private let file: Int32

    init(_ bench: RemoteBench) throws {
      file = open("\(bench.folder)/~vmckpt/lock", O_RDWR | O_CLOEXEC)
      try #require(file >= 0)
    }

    deinit { close(file) }

    func take() throws { try #require(flock(file, LOCK_EX) == 0) }
    func release() { flock(file, LOCK_UN) }
  }

  /// A push whose remote takes nothing, as of some moment after its session is there. It waits for long, and sends so
  /// slowly that it cannot be over by that moment.
  private func stuckPush(
    _ name: String,
    on host: VMCkptTool
  ) throws -> (push: ChildProcess, lock: FolderLock) {
    let lock = try FolderLock(bench)
    let push = try host.start(["push", name, "--limit-rate", "6M", "--wait", "600"])
    try waitUntil("its session is there") { !bench.objects("sessions").isEmpty }
    try lock.take()
    return (push, lock)
  }

  @Test("gc, delete and optimize of a store do not wait for a push whose remote takes nothing")
  func storeIsNotLocked() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(12_000)
    try bench.save("first", ram, on: host)
    try bench.save("other", sampleRAM(300), on: host)
    let (push, lock) = try stuckPush("first", on: host)
    #expect(push.isRunning)
    for line in [["delete", "other"], ["gc"], ["optimize"]] {
      let outcome = try host.start(line).wait()
      #expect(outcome.succeeded, "\(outcome)")
      #expect(outcome.durationSeconds < 120, "\(outcome)")
    }
    #expect(push.isRunning)
    lock.release()
    let pushed = try push.wait()
    #expect(pushed.succeeded, "\(pushed)")
    let other = try bench.host("two")
    try other.succeed("pull", "first")
    #expect(try other.restored("first", in: bench.directory) == ram)
    #expect(try host.verify().succeeded)
    // What the push noted of the store's chunks is right after all that.
    try bench.save("second", ram, on: host)
    let second = try host.json("push", "second")["snapshots"] as? [[String: Any]]
    #expect(second?.first?["sent_pages"] as? Int == 0)
    try other.succeed("pull", "second")
    #expect(try other.restored("second", in: bench.directory) == ram)
  }

  @Test("a snapshot that is deleted while it is pushed ends the push, and nothing false is noted")
  func deletedMeanwhile() throws {
    let host = try bench.host("one")
    let ram = incompressibleRAM(12_000)
    try bench.save("first", ram, on: host)
    let (push, lock) = try stuckPush("first", on: host)
    try host.succeed("delete", "first")
    try host.succeed("gc")
    // These come into the chunks that are free now.
    let next = incompressibleRAM(12_000, seed: 77)
    try bench.save("next", next, on: host)
    lock.release()
    let pushed = try push.wait()
    #expect(
      pushed.succeeded || pushed.standardError.contains("deleted in the meantime"),
      "\(pushed)"
    )
    try host.succeed("push", "next")
    let other = try bench.host("two")
    try other.succeed("pull", "next")
    #expect(try other.restored("next", in: bench.directory) == next)
    #expect(try host.json("remote", "check", "--read-data", "100")["sound"] as? Bool == true)
  }

  @Test("lists of condemned packs stay few, and none of what they say is forgotten")
  func listsStayFew() throws {
    let host = try bench.host("one", leaseSeconds: 600)
    let lasting = sampleRAM(200, seed: 500)
    try bench.save("lasting", lasting, on: host)
    try host.succeed("push", "lasting")
    var most = 0
    for round in 0..<24 {
      try bench.save("gone-\(round)", incompressibleRAM(20, seed: UInt64(round)), on: host)
      try host.succeed("push", "gone-\(round)")
      try host.succeed("remote", "delete", "gone-\(round)")
      #expect(try host.json("remote", "gc")["freed_packs"] as? Int == 1)
      most = max(most, bench.objects("gc").count)
      // Older than lease and margin, a list takes the place of others.
      if round % 8 == 7 { try bench.passTime(seconds: 602) }
    }
    #expect(most <= 18, "\(most)")
    // The store knows where these pages were, and must not think that they are there still.
    for round in [0, 11, 23] {
      let pushed = try host.json("push", "gone-\(round)")["snapshots"] as? [[String: Any]]
      #expect(pushed?.first?["sent_pages"] as? Int == 20)
    }
    #expect(try host.json("remote", "check", "--read-data", "100")["sound"] as? Bool == true)
    let kept = try SQLiteShell(host.storePath).integer(
      "SELECT count(*) FROM remote_object WHERE key GLOB 'gc/*'"
    )
    #expect(kept <= 18)
    let other = try bench.host("two")
    try other.succeed("pull", "lasting", "gone-11")
    #expect(try other.restored("lasting", in: bench.directory) == lasting)
  }
}
