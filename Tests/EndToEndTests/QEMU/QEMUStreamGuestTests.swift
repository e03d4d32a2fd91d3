import Foundation
import Testing
import VMCheckpointTestSupport

/// Real guests that are saved by their migration stream, killed, and go on from what is restored.
@Suite(.serialized, .guest) struct QEMUStreamGuestTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// What comes back must be the same guest, also after a second time, and a byte that is wrong must
  /// not go unnoticed.
  ///
  /// The guest is stopped before it is sent: without KVM, QEMU misses pages that a guest writes while
  /// it is migrated, through any program.
  @Test(arguments: [1, 2], QEMURelease.allCases)
  func aGuestGoesOnCountingFromItsStream(cpuCount: Int, qemu: QEMURelease) throws {
    let guest = try CountingGuest("first", in: bench.directory, qemu: qemu, cpuCount: cpuCount)
    _ = try guest.waitForCounts(3)
    let firstMonitor = try guest.monitor()
    try firstMonitor.run("stop")
    try firstMonitor.migrate(to: bench.shellCommand("save", "qemu-stream:-", "--name", "live"))
    // The migration is over when QEMU has sent all; the snapshot is complete a moment later.
    try waitUntil("the snapshot is complete") { (try? bench.tool.snapshotNames()) == ["live"] }
    let before = guest.counts()
    try guest.kill()

    let second = try CountingGuest(
      "second",
      in: bench.directory,
      qemu: qemu,
      cpuCount: cpuCount,
      incoming: bench.shellCommand("restore", "live", "--format", "qemu-stream", "-o", "-")
    )
    let monitor = try second.monitor()
    try waitUntil("the stream is read") { try monitor.status() != "inmigrate" }
    try monitor.run("cont")
    let after = try second.waitForCounts(3)
    #expect(after.goOn(from: before), "\(before) \(after)")

    try monitor.run("stop")
    let stream = bench.directory.file("stream")
    try monitor.migrate(to: "exec:cat > \(stream)")
    let stopped = second.counts()
    try second.kill()
    try bench.tool.succeed("save", "qemu-stream:\(stream)", "--name", "stopped")
    let restored = bench.directory.file("restored")
    try bench.tool.succeed("restore", "stopped", "--format", "qemu-stream", "-o", restored)
    let third = try CountingGuest(
      "third",
      in: bench.directory,
      qemu: qemu,
      cpuCount: cpuCount,
      incoming: "exec:cat \(restored)"
    )
    // It was stopped when it was saved, and so it is now.
    let thirdMonitor = try third.monitor()
    try waitUntil("the stream is read") { try thirdMonitor.status() != "inmigrate" }
    #expect(try thirdMonitor.status() == "paused")
    #expect(third.counts().isEmpty)
    try thirdMonitor.run("cont")
    #expect(try third.waitForCounts(3).goOn(from: stopped))
    try third.kill()
    #expect(try bench.tool.verify().succeeded)
    if cpuCount == 1 { try aWrongByteIsNoticed(in: restored, qemu, nonce: stopped[0].nonce) }
  }

  private func aWrongByteIsNoticed(in path: String, _ qemu: QEMURelease, nonce: String) throws {
    let stream = Data(try readFile(path))
    let counts = try resumed("ram", qemu, stream.withWrong(nonce: nonce)).waitForCounts(2)
    #expect(counts.allSatisfy { $0.nonce != nonce })
    let guest = try resumed("device", qemu, stream.withWrongInterruptTable())
    #expect(throws: TestSetupError.self) { try guest.waitForCounts(2, timeoutSeconds: 5) }
  }

  private func resumed(_ name: String, _ qemu: QEMURelease, _ stream: Data) throws -> CountingGuest
  {
    let path = bench.directory.file("\(name).stream")
    try writeFile(path, Array(stream))
    let guest = try CountingGuest(
      name,
      in: bench.directory,
      qemu: qemu,
      incoming: "exec:cat \(path)"
    )
    let monitor = try guest.monitor()
    try waitUntil("the stream is read") { try monitor.status() != "inmigrate" }
    try monitor.run("cont")
    return guest
  }
}
