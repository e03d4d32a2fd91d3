import Foundation
import Testing
import VMCheckpointTestSupport

/// Guests whose RAM is made of several backends, or lies in other places than a machine's type says.
@Suite(.serialized, .guest) struct QEMULayoutTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// How a guest is made in a test.
  struct Machine: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var type: String
    var memory: String
    /// Of each backend that is RAM in the order of flat RAM; `FILE` stands for a file of its own.
    var backends: [String]
    var arguments: [String]
    var regions: [[Int]]
    /// From 8.1 on, QEMU sends memory without a file's name, so that memfds are not read in place.
    var isReadInPlace: [QEMURelease]
  }

  private static let mebibyte = 1 << 20
  private static let nodes = ["-numa", "node,memdev=one,cpus=0", "-numa", "node,memdev=two,cpus=1"]

  static let machines = [
    // Two memfds of one name and size; the order of their ids is not that of their addresses. The
    // hole lies in the middle of one of them, and a DIMM above it.
    Machine(
      testDescription: "NUMA nodes in memfds, a hole, and a DIMM",
      type: "q35,max-ram-below-4g=160M",
      memory: "256M,slots=1,maxmem=1G",
      backends: [
        "memory-backend-memfd,id=one,size=128M,share=on",
        "memory-backend-memfd,id=two,size=128M,share=on",
        "memory-backend-file,id=a,size=128M,share=on,mem-path=FILE",
      ],
      arguments: nodes + ["-device", "pc-dimm,id=dimm0,memdev=a"],
      regions: [
        [0, 160 * mebibyte], [1 << 32, 96 * mebibyte], [0x1_4000_0000, 128 * mebibyte],
      ],
      isReadInPlace: [.system]
    ),
    Machine(
      testDescription: "NUMA nodes in anonymous memory",
      type: "pc",
      memory: "192M",
      backends: [
        "memory-backend-ram,id=two,size=64M", "memory-backend-ram,id=one,size=128M",
      ],
      arguments: ["-numa", "node,memdev=two,cpus=0", "-numa", "node,memdev=one,cpus=1"],
      regions: [[0, 192 * mebibyte]],
      isReadInPlace: []
    ),
    // What is shared and not RAM would be left out of the stream with the RAM.
    Machine(
      testDescription: "memory that is shared with another process",
      type: "q35,memory-backend=one",
      memory: "128M",
      backends: ["memory-backend-file,id=one,size=128M,share=on,mem-path=FILE"],
      arguments: [
        "-object", "memory-backend-memfd,id=other,size=1M,share=on", "-device",
        "ivshmem-plain,memdev=other,master=on",
      ],
      regions: [[0, 128 * mebibyte]],
      isReadInPlace: []
    ),
  ]

  /// All RAM must come back where it was, and the guest with it, by the script and by a stream.
  @Test(arguments: machines, QEMURelease.allCases)
  func aGuestGoesOnWhateverItsRAMIsMadeOf(machine: Machine, qemu: QEMURelease) throws {
    let file = bench.directory.file("backend.ram")
    let objects = machine.backends.flatMap {
      ["-object", $0.replacingOccurrences(of: "FILE", with: file)]
    }
    func start(_ name: String, incoming: String? = nil) throws -> CountingGuest {
      try CountingGuest(
        name,
        in: bench.directory,
        qemu: qemu,
        memory: machine.memory,
        cpuCount: 2,
        machine: machine.type,
        devices: objects + machine.arguments,
        incoming: incoming
      )
    }
    let guest = try start("live")
    _ = try guest.waitForCounts(2)
    let monitor = try guest.monitor()
    let settings = try monitor.migrationSettings()
    let save = try bench.tool.start(
      ["save", "qemu:\(guest.monitorPath)", "--name", "live", "--leave-stopped"]
    ).wait()
    expectSuccess(save)
    #expect(save.standardError.isEmpty, "\(save)")
    #expect(try monitor.migrationSettings() == settings)
    let sent = try monitor.sentRAMByteCount()
    let isReadInPlace = machine.isReadInPlace.contains(qemu)
    #expect((sent < 16 << 20) == isReadInPlace, "\(sent)")
    let shown = try bench.tool.json("show", "live")
    let regions = shown["memory_regions"] as? [[String: Any]] ?? []
    #expect(
      regions.map { [$0["gpa"] as? Int ?? -1, $0["bytes"] as? Int ?? -1] } == machine.regions
    )
    let before = guest.counts()
    let images = try Self.mappedFiles(of: guest)
    if isReadInPlace {
      // The guest stands still: its own memory is what must come back, each block in its place.
      let directory = try bench.restoredDirectory("live")
      for index in machine.backends.indices {
        let ram = try readFile("\(directory)/ram.\(index)")
        #expect(try images.contains { try readFile($0) == ram }, "\(index)")
      }
      #expect(Set(images).count >= machine.backends.count)
    }
    try guest.kill()
    let clone = try bench.clones("live", 1)[0]
    #expect(try clone.waitForCounts(3).goOn(from: before))
    try clone.kill()
    unlink(file)
    let incoming = try start(
      "stream",
      incoming: bench.shellCommand("restore", "live", "--format", "qemu-stream", "-o", "-")
    )
    #expect(try incoming.waitForCounts(3).goOn(from: before))
    #expect(try bench.tool.verify().succeeded)
  }

  /// The files that QEMU has open for RAM.
  private static func mappedFiles(of guest: CountingGuest) throws -> [String] {
    let directory = "/proc/\(guest.process.identifier)/fd"
    return directoryEntries(directory).map { "\(directory)/\($0)" }.filter { path in
      let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path)
      return target?.contains("memfd:memory-backend") == true
        || target?.hasSuffix("backend.ram") == true
    }
  }
}
