import Foundation
import Testing
import VMCheckpointTestSupport

/// Files to which QEMU 10 has migrated a real guest. (QEMU 7.2 has no `file:`.)
@Suite(.serialized, .guest) struct QEMUFileTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// How the guest is written to a file.
  struct Way: Sendable, CustomTestStringConvertible {
    var capabilities: [String]
    var offset = 0

    var testDescription: String { "\(capabilities) at \(offset)" }
  }

  private static let ways = [
    Way(capabilities: ["mapped-ram"]),
    Way(capabilities: ["mapped-ram"], offset: 0x10830),
    Way(capabilities: ["mapped-ram", "multifd"]),
    Way(capabilities: []),
  ]

  private func start(_ name: String, incoming: String? = nil) throws -> CountingGuest {
    try CountingGuest(
      name,
      in: bench.directory,
      qemu: .ten,
      memory: "192M",
      cpuCount: 2,
      ram: .file(bench.directory.file("\(name).ram"), isShared: true),
      incoming: incoming
    )
  }

  /// The file must give the guest's own RAM, which is what `qemu:` gives of the same guest, and the
  /// guest goes on from it.
  @Test(arguments: ways)
  func aFileGivesTheGuestThatWasWritten(way: Way) throws {
    let guest = try start("written")
    _ = try guest.waitForCounts(2)
    let monitor = try guest.monitor()
    try monitor.run("stop")
    let before = guest.counts()
    let path = bench.directory.file("guest.migration")
    let uri = "file:\(path)" + (way.offset == 0 ? "" : ",offset=\(way.offset)")
    try monitor.enable(way.capabilities)
    try monitor.migrate(to: uri)
    try guest.kill()
    let ram = try readFile(bench.directory.file("written.ram"))

    // What is before the stream is not the guest's: libvirt has its own header there, for one.
    let stream = Array(try readFile(path).dropFirst(way.offset))
    let cut = try bench.write("cut.migration", stream)
    try bench.tool.succeed("save", "qemu-stream:-", "--name", "file", input: .file(cut))
    #expect(try bench.restore("file") == ram)

    // QEMU migrates no guest twice that stands still, but the one that reads the file is the same.
    let reader = try start("reader", incoming: "defer")
    let readerMonitor = try reader.monitor()
    try readerMonitor.enable(way.capabilities)
    try readerMonitor.run("migrate-incoming", ["uri": uri])
    try waitUntil("the file is read") { try readerMonitor.status() == "paused" }
    try bench.tool.succeed("save", "qemu:\(reader.monitorPath)", "--name", "live")
    #expect(try bench.restore("live") == ram)
    try reader.kill()

    // A file has no command line for a script.
    let streamed = try start(
      "streamed",
      incoming: bench.shellCommand("restore", "file", "--format", "qemu-stream", "-o", "-")
    )
    for guest in try [streamed, bench.clones("live", 1)[0]] {
      let monitor = try guest.monitor()
      try waitUntil("the guest has come in") { try monitor.status() == "paused" }
      try monitor.run("cont")
      #expect(try guest.waitForCounts(3).goOn(from: before))
      try guest.kill()
    }
    #expect(try bench.tool.verify().succeeded)
  }
}

extension QMPConnection {
  fileprivate func enable(_ capabilities: [String]) throws {
    try run(
      "migrate-set-capabilities",
      ["capabilities": capabilities.map { ["capability": $0, "state": true] as [String: Any] }]
    )
  }
}
