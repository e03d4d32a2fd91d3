import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// Real guests that run at once, and whose RAM follows by `vmckpt serve --qemu`.
@Suite(.serialized, .guest) struct PostcopyTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// How QEMU and `vmckpt` meet.
  enum Way: String, CaseIterable, Sendable {
    case pipes, socket
  }

  private static let postcopy = ["-global", "migration.x-postcopy-ram=on"]

  /// Saves a guest that counts; returns its last numbers.
  private func saveGuest(
    _ qemu: QEMURelease,
    memory: String = "128M",
    machine: String = "q35",
    isStopped: Bool = false
  ) throws -> [CountingGuest.Count] {
    let guest = try CountingGuest(
      "saved",
      in: bench.directory,
      qemu: qemu,
      memory: memory,
      machine: machine
    )
    _ = try guest.waitForCounts(2)
    let monitor = try guest.monitor()
    if isStopped { try monitor.run("stop") }
    try bench.tool.succeed(
      "save",
      "qemu:\(guest.monitorPath)",
      "--name",
      "live",
      "--leave-stopped"
    )
    let counts = guest.counts()
    try guest.kill()
    return counts
  }

  private func state(_ monitor: QMPConnection) throws -> String {
    (try monitor.run("query-migrate") as? [String: Any])?["status"] as? String ?? "none"
  }

  private func waitForCompletion(_ guest: CountingGuest) throws {
    let monitor = try guest.monitor()
    try waitUntil("QEMU has all pages") { try state(monitor) == "completed" }
  }

  private var leases: Int {
    get throws { try #require(bench.tool.json("lease", "list")["leases"] as? [Any]).count }
  }

  /// Whether a recovery says that QEMU needs none.
  private static func foundNothingToRecover(_ outcome: ProcessOutcome) -> Bool {
    outcome.ending == .exit(69) && outcome.standardError.contains("the guest has all of its pages")
  }

  /// The content of a guest's RAM that is a memfd.
  private func memory(of guest: CountingGuest) throws -> String {
    let folder = "/proc/\(guest.process.identifier)/fd"
    let name = directoryEntries(folder).first {
      readLink("\(folder)/\($0)")?.hasPrefix("/memfd:memory-backend-memfd") == true
    }
    return "\(folder)/\(try #require(name))"
  }

  private func requireRestoredRAM(in guest: CountingGuest) throws {
    let restored = bench.directory.file("restored.ram")
    try bench.tool.succeed("restore", "live", "-o", restored, "--force")
    let outcome = try run(["/usr/bin/cmp", restored, memory(of: guest)])
    #expect(outcome.succeeded, "\(outcome)")
    unlink(restored)
  }

  @Test(
    "the guest counts on, and the lease ends when QEMU has all pages",
    arguments: Way.allCases,
    QEMURelease.allCases
  )
  func goesOn(way: Way, qemu: QEMURelease) throws {
    let before = try saveGuest(qemu)
    let socket = bench.directory.file("incoming")
    let guest = try CountingGuest(
      "resumed",
      in: bench.directory,
      qemu: qemu,
      devices: Self.postcopy,
      incoming: way == .pipes
        ? bench.shellCommand("serve", "live", "--qemu", "--record-working-set", "0")
        : "unix:\(socket)"
    )
    var server: ChildProcess?
    if way == .socket {
      server = try bench.tool.start([
        "serve", "live", "--qemu", "--connect", socket, "--json", "--record-working-set", "0",
      ])
    }
    let counts = try guest.waitForCounts(3)
    #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
    try waitForCompletion(guest)
    if let server {
      let outcome = try server.wait()
      try #require(outcome.succeeded, "\(outcome)")
      let result = try outcome.jsonObject()
      #expect(result["process"] as? Int == Int(guest.process.identifier))
      #expect(try #require(result["seconds_to_run"] as? Double) > 0)
      let stored = try bench.sql.integer("SELECT stored_pages FROM snapshot")
      let sent = ["request_pages", "working_set_pages", "background_pages"].reduce(0) {
        $0 + (result[$1] as? Int ?? 0)
      }
      #expect(sent == stored, "each stored page is sent once: \(result)")
    }
    try waitUntil("the lease is given back") { try leases == 0 }
    _ = try guest.waitForMore(2)
    try guest.kill()
  }

  @Test("what a guest asks for first is recorded, and sent first to the next")
  func workingSet() throws {
    let before = try saveGuest(.system)
    func start(_ name: String, _ options: String...) throws -> [String: Any] {
      let socket = bench.directory.file("\(name).incoming")
      let guest = try CountingGuest(
        name,
        in: bench.directory,
        qemu: .system,
        devices: Self.postcopy,
        incoming: "unix:\(socket)"
      )
      let server = try bench.tool.start(
        ["serve", "live", "--qemu", "--connect", socket, "--json"] + options
      )
      let counts = try guest.waitForCounts(3)
      #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
      try waitForCompletion(guest)
      let outcome = try server.wait()
      try #require(outcome.succeeded, "\(outcome)")
      try guest.kill()
      return try outcome.jsonObject()
    }
    let first = try start("first", "--record-working-set", "8")
    #expect(first["working_set_recorded"] as? Bool == true)
    #expect(first["working_set_pages"] as? Int == 0)
    let shown = try #require(try bench.tool.json("show", "live")["working_set"] as? [String: Any])
    #expect(shown["door"] as? String == "postcopy")
    let next = try start("next")
    #expect(next["working_set_of"] as? String == "live")
    #expect(try #require(next["working_set_pages"] as? Int) > 0)
    #expect(next["working_set_recorded"] as? Bool == false)
  }

  /// A machine with RAM on both sides of the hole below 4 GiB.
  @Test(
    "RAM is the restored one to the last byte, and a guest that was stopped stays stopped",
    arguments: QEMURelease.allCases
  )
  func sameRAM(qemu: QEMURelease) throws {
    let (memory, machine) = ("256M", "q35,max-ram-below-4g=128M")
    let before = try saveGuest(qemu, memory: memory, machine: machine, isStopped: true)
    #expect(try bench.sql.integer("SELECT count(*) FROM memory_region") > 1)
    let refused = try CountingGuest(
      "refused",
      in: bench.directory,
      qemu: qemu,
      memory: memory,
      machine: machine,
      devices: Self.postcopy,
      incoming: bench.shellCommand("serve", "live", "--qemu", "--record-working-set", "0")
    )
    let refusal = try refused.process.wait()
    #expect(!refusal.succeeded)
    #expect(refusal.standardError.contains("start QEMU with -S"), "\(refusal)")
    #expect(refused.counts().isEmpty, "it has not run")
    #expect(try leases == 0)

    let guest = try CountingGuest(
      "resumed",
      in: bench.directory,
      qemu: qemu,
      memory: memory,
      machine: machine,
      ram: .memfd,
      devices: Self.postcopy + ["-S"],
      incoming: bench.shellCommand("serve", "live", "--qemu", "--record-working-set", "0")
    )
    try waitForCompletion(guest)
    let monitor = try guest.monitor()
    #expect(try monitor.status() == "paused")
    try requireRestoredRAM(in: guest)
    #expect(guest.counts().isEmpty, "it has not run")
    try monitor.run("cont")
    let counts = try guest.waitForCounts(3)
    #expect(counts.goOn(from: before), "\(before) \(counts)")
    try guest.kill()
  }

  /// Its vCPUs do not run, so that no page fault keeps QEMU's monitor from an answer.
  @Test(
    "a guest outlives servers that are killed at any moment, and its snapshot is not deleted meanwhile",
    arguments: QEMURelease.allCases
  )
  func killed(qemu: QEMURelease) throws {
    let before = try saveGuest(qemu)
    let socket = bench.directory.file("incoming")
    let guest = try CountingGuest(
      "resumed",
      in: bench.directory,
      qemu: qemu,
      ram: .memfd,
      devices: Self.postcopy + ["-S"],
      incoming: "unix:\(socket)"
    )
    var generator = TestGenerator(seed: 11)
    var arguments = ["serve", "live", "--qemu", "--connect", socket]
    // On a quick machine QEMU has all pages before the last round.
    var isDone = false
    for round in 0..<soakRounds(6) {
      let server = try bench.tool.start(arguments + (round % 2 == 0 ? ["--no-prefetch"] : []))
      try waitUntil("round \(round): QEMU has the devices") {
        guard server.isRunning else {
          let outcome = try server.wait()
          isDone = round > 0 && Self.foundNothingToRecover(outcome)
          guard isDone else {
            throw TestSetupError("\(outcome); QEMU: \(guest.process.standardErrorSoFar)")
          }
          return true
        }
        return server.standardErrorSoFar.contains("in QEMU")
      }
      guard !isDone else { break }
      if round % 2 == 0 {
        let refused = try bench.tool.run("delete", "live")
        #expect(refused.ending == .exit(75), "\(refused)")
        #expect(refused.standardError.contains("(postcopy, \"process "), "\(refused)")
      }
      usleep(UInt32(generator.int(0...300_000)))
      server.send(SIGKILL)
      isDone = try server.wait().succeeded
      guard !isDone else { break }
      #expect(try bench.tool.run("delete", "live").ending == .exit(75), "a VM waits for its pages")
      arguments = ["serve", "live", "--qemu", "--recover", guest.monitorPath]
    }
    if !isDone {
      let last = try bench.tool.run("serve", "live", "--qemu", "--recover", guest.monitorPath)
      #expect(last.succeeded || Self.foundNothingToRecover(last), "\(last)")
    }
    let monitor = try guest.monitor()
    try waitUntil("QEMU has all pages") { try state(monitor) == "completed" }
    try requireRestoredRAM(in: guest)
    #expect(try leases == 0)
    // As a server leaves it that is killed between its last page and its own end.
    try bench.sql.run(
      """
      INSERT INTO lease (snapshot_id, door, target, holder, begun_at)
      SELECT id, 'postcopy', 'process \(guest.process.identifier)', 'vmckpt', '2026-01-01T00:00:00.000Z'
      FROM snapshot
      """
    )
    let done = try bench.tool.run("serve", "live", "--qemu", "--recover", guest.monitorPath)
    #expect(Self.foundNothingToRecover(done), "\(done)")
    #expect(try leases == 0)
    let late = try bench.tool.run("serve", "live", "--qemu", "--recover", guest.monitorPath)
    #expect(late.ending == .exit(69), "\(late)")
    #expect(late.standardError.contains("does not wait for pages"), "\(late)")
    try monitor.run("cont")
    let counts = try guest.waitForCounts(3)
    #expect(counts.areOne(with: before, slack: 20), "\(before) \(counts)")
    try guest.kill()
    #expect(try bench.tool.run("delete", "live").succeeded)
  }

  /// The page must never be zeros; when the chunk is right again, the guest gets it.
  @Test("a damaged chunk pauses the guest, which is recovered", arguments: QEMURelease.allCases)
  func damaged(qemu: QEMURelease) throws {
    let before = try saveGuest(qemu, isStopped: true)
    let chunk = try bench.sql.integer("SELECT max(chunk_id) FROM ram_extent")
    let data = try bench.sql.run("SELECT hex(data) FROM chunk_data WHERE chunk_id = \(chunk)")
    try bench.sql.run(
      "UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = \(chunk)"
    )
    let socket = bench.directory.file("incoming")
    let guest = try CountingGuest(
      "resumed",
      in: bench.directory,
      qemu: qemu,
      ram: .memfd,
      devices: Self.postcopy + ["-S"],
      incoming: "unix:\(socket)"
    )
    let outcome = try bench.tool.run(
      "serve",
      "live",
      "--qemu",
      "--connect",
      socket,
      "--record-working-set",
      "0"
    )
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("chunk \(chunk)"), "\(outcome)")
    let monitor = try guest.monitor()
    try waitUntil("QEMU waits for another server") { try state(monitor) == "postcopy-paused" }
    #expect(try bench.tool.run("delete", "live").ending == .exit(75))

    try bench.sql.run("UPDATE chunk_data SET data = x'\(data)' WHERE chunk_id = \(chunk)")
    try bench.tool.succeed("serve", "live", "--qemu", "--recover", guest.monitorPath)
    try waitUntil("QEMU has all pages") { try state(monitor) == "completed" }
    try requireRestoredRAM(in: guest)
    try monitor.run("cont")
    #expect(try guest.waitForCounts(3).goOn(from: before))
    try guest.kill()
  }

  @Test("what QEMU cannot do is said before the guest runs", arguments: QEMURelease.allCases)
  func refusals(qemu: QEMURelease) throws {
    _ = try saveGuest(qemu)
    // Not on a file system in memory.
    let file = bench.directory.file("private.ram")
    let cases: [(CountingGuest.RAM, [String], String)] = [
      (.anonymous, [], "QEMU refuses a postcopy migration"),
      (
        .file(file, isShared: false), Self.postcopy,
        // QEMU 10 says it itself.
        qemu == .ten ? "need to be TMPFS" : "a file that it maps privately"
      ),
      (
        .anonymous, Self.postcopy + ["-global", "migration.x-multifd=on"],
        qemu == .ten
          ? "not yet compatible with multifd" : "x-multifd does not go with postcopy"
      ),
    ]
    for (index, (ram, options, message)) in cases.enumerated() {
      let guest = try CountingGuest(
        "refused-\(index)",
        in: bench.directory,
        qemu: qemu,
        ram: ram,
        devices: options,
        incoming: bench.shellCommand("serve", "live", "--qemu", "--record-working-set", "0")
      )
      try waitUntil("case \(index) is refused") {
        guest.process.standardErrorSoFar.contains(message)
      }
      #expect(guest.counts().isEmpty)
      try waitUntil("no lease is left") { try leases == 0 }
    }
  }
}
