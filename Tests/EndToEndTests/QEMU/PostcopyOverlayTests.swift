import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// A guest that runs while its pages come must see the pages that a restore gives it. An overlay that is not laid over
/// RAM leaves it with the underlay, or with the clock and the instructions of another host.
///
/// The machines have never run, so that their RAM is exactly what the tests have put there.
@Suite(.serialized, .guest) struct PostcopyOverlayTests {
  private let bench: Workbench
  /// What the machine's RAM has when it is saved.
  private let captured: [UInt8]
  /// RAM without overlays.
  private let bare: [UInt8]
  /// RAM with them.
  private let seen: [UInt8]

  private static let pageCount = 8192
  /// Half of RAM is above 4 GiB.
  private static let lowPageCount = 4096
  private static let memory = [
    "-m", "32M", "-object", "memory-backend-memfd,id=m,size=32M,share=on", "-machine",
    "memory-backend=m,max-ram-below-4g=16M",
  ]
  private static let postcopy = ["-global", "migration.x-postcopy-ram=on"]
  /// Where devices are between pages of RAM, or ROMs: what QEMU shows there is not RAM.
  private static let hole = 0xa0..<0x100

  private static let message = OverlayJSON.page([1, 2, 3])
  private static let event = OverlayJSON.page([4, 5])
  private static let assist = OverlayJSON.page([6])
  private static let shown = OverlayJSON.page([7, 8, 9])
  private static let underlay = OverlayJSON.page([10, 11])

  /// An overlay over zeros; stacks inside an extent, and at the end of a region; pages at the edges of RAM; one of
  /// zeros; one that is baked; one that RAM shows when it is captured; one outside RAM.
  private static let document = OverlayJSON.document(
    #"{"kind":"hypercall","pfn":1000,"variant":"vmcall"}"#,
    contents("synic-message", vp: 0, pfn: 576, message),
    #"{"kind":"reference-tsc","pfn":576,"sequence":3,"scale":"0x6666666600000000","offset":-100}"#,
    contents("vp-assist", vp: 0, pfn: 576, assist),
    contents("synic-event", vp: 0, pfn: 4095, event),
    #"{"kind":"hypercall","pfn":4095,"variant":"vmcall"}"#,
    #"{"kind":"reference-tsc","pfn":4095,"tsc_frequency_hz":2400000000}"#,
    contents("synic-event", vp: 1, pfn: 0x100000, event),
    contents("vp-assist", vp: 1, pfn: 0x100fff, assist),
    contents("synic-event", vp: 2, pfn: 600, OverlayJSON.page([])),
    #"{"kind":"reference-tsc","pfn":620,"tsc_frequency_hz":1000000000,"underlay":"unknown"}"#,
    contents("synic-message", vp: 3, pfn: 512, shown, underlay: underlay),
    #"{"kind":"reference-tsc","pfn":"0x50000","tsc_frequency_hz":2400000000}"#
  )

  private static func contents(
    _ kind: String,
    vp: Int,
    pfn: Int,
    _ page: [UInt8],
    underlay: [UInt8]? = nil
  ) -> String {
    OverlayJSON.record(
      #""kind":"\#(kind)","vp":\#(vp),"pfn":\#(pfn),"contents":"\#(OverlayJSON.base64(page))""#,
      underlay: underlay.map(OverlayJSON.base64)
    )
  }

  init() throws {
    bench = try Workbench()
    var ram = [UInt8](repeating: 0, count: Self.pageCount * 4096)
    for (first, count) in [(512, 128), (4064, 64), (8160, 32)] {
      ram.replaceSubrange(
        (first * 4096)..<((first + count) * 4096),
        with: incompressibleRAM(count, seed: UInt64(first))
      )
    }
    ram = ram.replacingPage(
      620,
      with: OverlayJSON.tscPage(sequence: 1, scale: OverlayJSON.scale(hz: 1_000_000_000), offset: 0)
    )
    captured = ram.replacingPage(512, with: Self.shown)
    bare = ram.replacingPage(512, with: Self.underlay)
    seen = [
      (1000, OverlayJSON.vmcall),
      (576, OverlayJSON.tscPage(sequence: 3, scale: 0x6666_6666_0000_0000, offset: -100)),
      (4095, OverlayJSON.vmcall), (4096, Self.event), (8191, Self.assist),
      (600, OverlayJSON.page([])), (512, Self.shown),
    ].reduce(bare) { $0.replacingPage($1.0, with: $1.1) }
  }

  /// What a host with AMD's processors and a clock of 3 GHz has in place of ``seen``.
  private var seenElsewhere: [UInt8] {
    let scale = OverlayJSON.scale(hz: 3_000_000_000)
    return [
      (1000, OverlayJSON.vmmcall), (4095, OverlayJSON.vmmcall),
      (576, OverlayJSON.tscPage(sequence: 4, scale: scale, offset: -100)),
      (620, OverlayJSON.tscPage(sequence: 1, scale: scale, offset: 0)),
    ].reduce(seen) { $0.replacingPage($1.0, with: $1.1) }
  }
  private static let elsewhere = ["--cpu-vendor", "amd", "--tsc-frequency", "3G"]

  /// Which overlays are asked for.
  enum Treatment: String, CaseIterable, Sendable {
    case apply, omit, elsewhere
  }

  private func options(_ treatment: Treatment) -> [String] {
    switch treatment {
    case .apply: []
    case .omit: ["--overlays", "omit"]
    case .elsewhere: Self.elsewhere
    }
  }

  private func expected(_ treatment: Treatment) -> [UInt8] {
    switch treatment {
    case .apply: seen
    case .omit: bare
    case .elsewhere: seenElsewhere
    }
  }

  // MARK: Machines

  private func save(_ qemu: QEMURelease) throws {
    let machine = try IdleMachine(
      "saved",
      in: bench.directory,
      qemu: qemu,
      arguments: Self.memory
    )
    let low = Self.lowPageCount * 4096
    try machine.write(Array(captured[..<low]), at: 0)
    try machine.write(Array(captured[low...]), at: 4 << 30)
    try bench.tool.succeed(
      "save",
      "qemu:\(machine.monitorPath)",
      "--name",
      "a",
      "--overlays",
      bench.write("overlays.json", Self.document)
    )
    try machine.kill()
  }

  /// A machine's RAM, without what lies over it, in the order of a flat file.
  private func ram(of machine: IdleMachine) throws -> [UInt8] {
    let low = Self.lowPageCount * 4096
    return try machine.read(low, at: 0) + machine.read(Self.pageCount * 4096 - low, at: 4 << 30)
  }

  private func awaitAllPages(_ monitor: QMPConnection) throws {
    try waitUntil("QEMU has all pages") {
      (try monitor.run("query-migrate") as? [String: Any])?["status"] as? String == "completed"
    }
  }

  /// What a machine has in its RAM, through QEMU's monitor: in the order of a flat file.
  private func ram(_ monitor: QMPConnection) throws -> [UInt8] {
    var ram: [UInt8] = []
    for (gpa, pages) in [
      (0, Self.lowPageCount), (4 << 30, Self.pageCount - Self.lowPageCount),
    ] {
      let path = bench.directory.file("part-\(UUID().uuidString)")
      defer { unlink(path) }
      try monitor.run("pmemsave", ["val": gpa, "size": pages * 4096, "filename": path])
      ram += try readFile(path)
    }
    return ram
  }

  /// The pages that differ, where QEMU shows RAM.
  private func differences(_ ram: [UInt8], _ expected: [UInt8]) -> [Int] {
    guard ram.count == expected.count else { return [-1] }
    return (0..<Self.pageCount).filter { page in
      let place = (page * 4096)..<(page * 4096 + 4096)
      return !Self.hole.contains(page)
        && ram.withUnsafeBytes { ram in
          expected.withUnsafeBytes {
            memcmp(ram.baseAddress! + place.lowerBound, $0.baseAddress! + place.lowerBound, 4096)
          }
        } != 0
    }
  }

  private func target(_ name: String, _ qemu: QEMURelease, _ options: [String]) throws
    -> IdleMachine
  {
    let command = bench.tool.commandLine(["serve", "a", "--qemu"] + options).joined(separator: " ")
    return try IdleMachine(
      name,
      in: bench.directory,
      qemu: qemu,
      arguments: Self.memory + Self.postcopy + ["-incoming", "exec:\(command)"]
    )
  }

  // MARK: Tests

  @Test(
    "pages that are pushed to a QEMU have their overlays as a restore has, and none with omit",
    arguments: Treatment.allCases,
    QEMURelease.allCases
  )
  func pushed(treatment: Treatment, qemu: QEMURelease) throws {
    try save(qemu)
    let machine = try target(
      "resumed",
      qemu,
      ["--record-working-set", "0"] + options(treatment)
    )
    try awaitAllPages(machine.monitor())
    let expected = expected(treatment)
    #expect(differences(try ram(of: machine), expected) == [])
    let restored = bench.directory.file("restored")
    let outcome = try bench.tool.start(["restore", "a", "-o", restored] + options(treatment)).wait()
    expectSuccess(outcome)
    #expect(differences(try readFile(restored), expected) == [])
    // As a restore for QEMU says it: the machine has no such registers.
    let warning = "RAM at PFN 0x3e8 gets a hypercall page that no register"
    let said = machine.process.standardErrorSoFar
    #expect(said.contains(warning) == (treatment != .omit), "\(said)")
    try machine.kill()
  }

  @Test(
    "pages that QEMU asks for, and those of a working set, have their overlays",
    arguments: QEMURelease.allCases
  )
  func requested(qemu: QEMURelease) throws {
    try save(qemu)
    let machine = try target(
      "asks",
      qemu,
      ["--record-working-set", "8", "--overlays", "apply"]
    )
    let monitor = try machine.awaitRestored()
    // Nothing is pushed while requests are recorded.
    #expect(differences(try ram(monitor), seen) == [])
    try awaitAllPages(monitor)
    try waitUntil("the working set is stored") {
      try bench.sql.integer("SELECT count(*) FROM working_set") == 1
    }
    try machine.kill()
    let next = try target("next", qemu, Self.elsewhere)
    try awaitAllPages(next.monitor())
    #expect(differences(try ram(of: next), seenElsewhere) == [])
    try next.kill()
  }

  /// Resumes the machine, compares its RAM, and ends it.
  private func resume(_ way: String, _ treatment: Treatment) throws {
    let place = try bench.directory.subdirectory("\(way)-\(treatment.rawValue)")
    // What nobody touches would come only when nothing is recorded any more.
    let line = ["resume", "a", "--lazy", way, "--record-working-set", "0"] + options(treatment)
    let process = try ChildProcess(
      bench.tool.commandLine(line),
      environment: ["VMCKPT_WORKING_DIRECTORY": place, "TMPDIR": bench.directory.path]
    )
    let monitor = try QMPConnection(path: "\(place)/qmp2")
    if way == "postcopy" {
      try awaitAllPages(monitor)
    } else {
      try waitUntil("the guest is there") {
        try !["inmigrate", "restore-vm"].contains(monitor.status())
      }
    }
    #expect(differences(try ram(monitor), expected(treatment)) == [], "\(treatment)")
    process.send(SIGTERM)
    #expect(try process.wait().ending == .exit(0))
  }

  @Test(
    "a resumed guest has the overlays that were asked for, however its RAM comes",
    arguments: ["postcopy", "none"],
    QEMURelease.allCases
  )
  func resumed(way: String, qemu: QEMURelease) throws {
    try save(qemu)
    for treatment in Treatment.allCases { try resume(way, treatment) }
  }

  @Test(
    "a guest that runs from a mount has its overlays, and the mount's files are those of a restore",
    .enabled(if: MountTool.canMount, "cannot mount FUSE file systems"),
    arguments: QEMURelease.allCases
  )
  func mounted(qemu: QEMURelease) throws {
    try save(qemu)
    try resume("mount", .apply)
    let mount = try MountTool(bench)
    #expect(differences(try readFile(mount.path("a", "ram")), seen) == [])
    #expect(differences(try readFile(mount.path("a", "ram.bare")), bare) == [])
  }

  @Test(
    "a server that takes the place of a killed one goes on with the same overlays",
    arguments: QEMURelease.allCases
  )
  func replaced(qemu: QEMURelease) throws {
    try save(qemu)
    let place = try bench.directory.subdirectory("resumed")
    // The first server waits for requests.
    let process = try ChildProcess(
      bench.tool.commandLine(
        ["resume", "a", "--lazy", "postcopy", "--record-working-set", "600"] + Self.elsewhere
      ),
      environment: ["VMCKPT_WORKING_DIRECTORY": place]
    )
    let monitor = try QMPConnection(path: "\(place)/qmp2")
    try waitUntil("the guest is there") { try !["inmigrate"].contains(monitor.status()) }
    let children = try readFile(
      procFile: "/proc/\(process.identifier)/task/\(process.identifier)/children"
    ).split(separator: " ").compactMap { Int32($0) }
    let server = try #require(
      children.first { child in
        let line = (try? readFile(procFile: "/proc/\(child)/cmdline")) ?? ""
        return line.split(separator: "\0").contains("serve")
      }
    )
    kill(server, SIGKILL)
    try awaitAllPages(monitor)
    #expect(differences(try ram(monitor), seenElsewhere) == [])
    process.send(SIGTERM)
    #expect(try process.wait().ending == .exit(0))
  }
}
