import Glibc
import Testing
import VMCheckpointTestSupport

/// A real guest that is converted while it runs must go on, and so must what was made of it.
@Suite(.serialized, .guest) struct ConvertLiveTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  enum Backend: CaseIterable, Sendable { case anonymous, memfd }

  private func start(_ backend: Backend) throws -> CountingGuest {
    try CountingGuest("live", in: bench.directory, ram: backend == .memfd ? .memfd : .anonymous)
  }

  @Test(arguments: Backend.allCases)
  func aRunningGuestGoesOnTwice(backend: Backend) throws {
    let guest = try start(backend)
    let earlier = try guest.waitForCounts(2)
    let settings = try guest.monitor().migrationSettings()
    let target = bench.directory.file("web")
    let result = try bench.tool.json(
      "convert",
      "qemu:\(guest.monitorPath)",
      "-o",
      target,
      "--format",
      "qemu"
    )
    #expect((result["paused_seconds"] as? Double ?? 999) < 120)
    #expect(try guest.monitor().migrationSettings() == settings)
    let before = guest.counts()
    let onward = try guest.waitForMore(2)
    #expect(Array(onward.dropFirst(before.count)).goOn(from: before))
    try guest.kill()
    // They go on from a moment in the conversion, however much the guest has counted since.
    let slack = earlier.slack(until: before)
    for clone in try bench.clones(from: target, 1) {
      let counts = try clone.waitForCounts(3)
      #expect(counts.areOne(with: before, slack: slack))
      try clone.kill()
    }
  }

  /// However a conversion ends, the guest runs, and there is no target.
  @Test(arguments: Backend.allCases)
  func aGuestOutlivesAConversionThatFails(backend: Backend) throws {
    let guest = try start(backend)
    _ = try guest.waitForCounts(1)
    let monitor = try guest.monitor()
    let target = bench.directory.file("out")
    // Nobody takes what is written, and the pipe is full soon.
    let pipe = try ChildPipe()
    let child = try bench.tool.start(
      ["convert", "qemu:\(guest.monitorPath)", "-o", "-", "--format", "raw"],
      outputDescriptor: pipe.writerForChild
    )
    _ = try pipe.read(upTo: 1)
    child.send(SIGKILL)
    #expect(try child.wait().ending == .signal(SIGKILL))
    try waitUntil("the guest runs again") { try monitor.status() == "running" }
    _ = try guest.waitForMore(1)
    // Known before the guest is stopped.
    let stopCount = monitor.stopCount
    try writeFile(target, "old")
    let refused = try bench.tool.run(
      "convert",
      "qemu:\(guest.monitorPath)",
      "-o",
      target,
      "--format",
      "elf"
    )
    #expect(refused.ending == .exit(73), "\(refused)")
    _ = try monitor.status()
    #expect(monitor.stopCount == stopCount)
    #expect(try readFile(target) == Array("old".utf8))
    try guest.kill()
  }
}
