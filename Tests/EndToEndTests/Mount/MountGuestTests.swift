import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Real guests in QEMU whose RAM is a file of a mount.
@Suite(.serialized, .guest, .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"))
struct MountGuestTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Starts `count` guests by the script in the mount, each with a console of its own.
  private func clones(_ mount: MountTool, _ snapshot: String, _ count: Int) throws
    -> [CountingGuest]
  {
    try (0..<count).map { _ in
      let place = try bench.directory.subdirectory("clone-\(UUID().uuidString)")
      return try CountingGuest(script: mount.path(snapshot, "run.sh"), workingDirectory: place)
    }
  }

  @Test("guests go on from the mount, by the script that is there", arguments: QEMURelease.allCases)
  func run(qemu: QEMURelease) throws {
    let guest = try CountingGuest("live", in: bench.directory, qemu: qemu, ram: .memfd)
    _ = try guest.waitForCounts(2)
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "vms/live")
    let before = guest.counts()
    try guest.kill()
    let mount = try MountTool(bench)
    let script = mount.path("vms/live", "run.sh")
    #expect(try fileMode(script) == 0o500)
    let states = directoryEntries(mount.path("vms/live", "device-states"))
    let shown = try bench.tool.json("show", "vms/live")["device_states"] as? [[String: Any]]
    #expect(states == shown?.compactMap { $0["name"] as? String }.sorted())
    for state in shown ?? [] {
      let name = try #require(state["name"] as? String)
      let sum = try VMCheckpointTestSupport.run(
        ["/usr/bin/sha256sum", mount.path("vms/live", "device-states/\(name)")])
      #expect(sum.text.hasPrefix(try #require(state["sha256"] as? String)), "\(name)")
    }
    let guests = try clones(mount, "vms/live", 2)
    for clone in guests {
      let counts = try clone.waitForCounts(3)
      // The guest counts on until the save is written, however long that takes.
      #expect(counts.areOne(with: before, slack: 10_000), "\(before) \(counts)")
    }
    // The VMs live on when their server is killed, and when its mount is taken away.
    for pid in mount.processes(areKeepers: false) { kill(pid, SIGKILL) }
    for clone in guests { _ = try clone.waitForMore(2) }
    #expect(try bench.tool.run("delete", "vms/live").ending == .exit(75))
    #expect(try mount.unmount().ending == .exit(75))
    expectSuccess(try mount.unmount("--lazy"))
    for clone in guests {
      let counts = try clone.waitForMore(2)
      #expect(zip(counts, counts.dropFirst()).allSatisfy { $1.number == $0.number + 1 })
      try clone.kill()
    }
    try mount.waitUntilNobodyIsLeft()
    #expect(try bench.sql.integer("SELECT count(*) FROM lease") == 0)
    try bench.tool.succeed("delete", "vms/live")
  }

  @Test("a byte that is wrong in the store's RAM is never what a guest goes on from")
  func wrongByte() throws {
    let guest = try CountingGuest("live", in: bench.directory, ram: .memfd)
    let nonce = try guest.waitForCounts(2)[0].nonce
    try bench.tool.succeed("save", "qemu:\(guest.monitorPath)", "--name", "live")
    try guest.kill()
    let ram = try bench.restore("live")
    let place = try #require(Data(ram).range(of: Data(nonce.utf8))).lowerBound / 4096
    let chunk = try bench.sql.integer(
      "SELECT chunk_id FROM ram_extent WHERE first_pfn <= \(place) ORDER BY first_pfn DESC LIMIT 1"
    )
    try bench.sql.run(
      "UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = \(chunk)"
    )
    let mount = try MountTool(bench)
    let clone = try clones(mount, "live", 1)[0]
    // The guest needs that page to print: QEMU ends by the error.
    let outcome = try clone.process.wait()
    #expect(outcome.ending == .signal(SIGBUS) || outcome.ending == .exit(1), "\(outcome)")
    #expect(clone.counts().allSatisfy { $0.nonce == nonce })
  }
}
