import Dispatch
import Foundation
import Glibc
import Synchronization
import Testing
import VMCheckpointTestSupport

/// A guest whose RAM is read while it runs, and compared when it is stopped.
@Suite(.serialized) struct TwoPassTests {
  /// Of seven pages that such a guest writes to one becomes a hole. The rest is more than the 32 MiB that are kept.
  private static let tooManyHotPages = 10_000

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func save(
    _ guest: WritingGuest,
    _ name: String,
    _ options: String...
  ) throws -> ProcessOutcome {
    try bench.tool.start(["save", "qemu:\(guest.qemu.path)", "--name", name, "--json"] + options)
      .wait()
  }

  /// A page of another moment, one that was torn, a hole that came or went: none may be in a snapshot.
  @Test(.slow, arguments: [0, 20, 2000] as [UInt32], WritingGuest.Place.allCases)
  func aSnapshotOfAGuestThatWritesWithoutPauseIsOneInstant(
    pauseMicroseconds: UInt32,
    place: WritingGuest.Place
  ) throws {
    let guest = try WritingGuest(
      in: bench.directory,
      ram: place,
      pauseMicroseconds: pauseMicroseconds
    )
    defer { guest.end() }
    for round in 1...3 {
      let before = guest.stepCount
      let outcome = try save(guest, "s\(round)")
      expectSuccess(outcome)
      #expect(guest.isRunning)
      #expect(guest.stopCount == round)
      let problems = try guest.problems(
        of: bench.restore("s\(round)"),
        steps: before...guest.stepCount
      )
      #expect(problems.isEmpty, "\(problems)")
    }
    #expect(try bench.tool.verify().succeeded)
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state <> 'complete'") == 0)
  }

  /// More than is kept in memory changes while the guest is being stopped. Then it must stay stopped until all
  /// of it is stored.
  @Test(.slow) func aGuestThatRewritesAllOfItsRAMIsOneInstant() throws {
    let guest = try WritingGuest(
      in: bench.directory,
      hotPageCount: Self.tooManyHotPages,
      stillPageCount: 100,
      pauseMicroseconds: 0
    ) { name, guest in
      if name == "migrate" { guest.hurry(Self.tooManyHotPages) }
    }
    defer { guest.end() }
    let before = guest.stepCount
    expectSuccess(try save(guest, "s"))
    let problems = try guest.problems(of: bench.restore("s"), steps: before...guest.stepCount)
    #expect(problems.isEmpty, "\(problems)")
    #expect(try bench.tool.verify().succeeded)
    // What was stored while it ran, and is not used, is gone: it would take as much space again.
    let (stored, named) = try bench.sql.pageCounts()
    #expect(stored < named * 3 / 2, "\(stored) pages are stored, \(named) named")
  }

  /// Pages are compared where they are: of a page that is gone the kernel gives a signal, which ends a process.
  @Test(.slow) func aGuestWhoseRAMIsCutWhileItIsComparedEndsNoSave() throws {
    let isOver = Mutex(false)
    let cutter = Mutex<Thread?>(nil)
    let ended = DispatchSemaphore(value: 0)
    let guest = try WritingGuest(
      in: bench.directory,
      holePageCount: 0,
      hook: { name, guest in
        guard name == "cont", cutter.withLock({ $0 != nil }) else { return }
        isOver.withLock { $0 = true }
        ended.wait()
        cutter.withLock { $0 = nil }
      },
      answer: { name, _ in
        if name == "migrate" { cutter.withLock { $0?.start() } }
        return nil
      }
    )
    defer { guest.end() }
    var hasShrunk = false
    for round in 1...30 where !hasShrunk {
      isOver.withLock { $0 = false }
      cutter.withLock {
        $0 = Thread {
          guest.cutAgainAndAgain { isOver.withLock { $0 } }
          ended.signal()
        }
      }
      let outcome = try save(guest, "s\(round)")
      guard case .exit(let code) = outcome.ending, [0, 65, 66, 69, 74].contains(code) else {
        Issue.record("\(outcome)")
        break
      }
      hasShrunk = ["shrank while it was being saved", "could not be read"].contains {
        outcome.standardError.contains($0)
      }
      #expect(guest.isRunning)
    }
    #expect(hasShrunk)
    #expect(try bench.tool.verify().succeeded)
  }

  /// The guest would be stopped for as long as it takes to store its RAM.
  @Test(.slow) func aGuestIsNotStoppedWhileItsRAMIsStored() throws {
    let chunkCount = Mutex(0)
    let completeCount = Mutex(-1)
    let path = bench.storePath
    let guest = try WritingGuest(in: bench.directory) { name, _ in
      func ask(_ sql: String) -> Int { (try? SQLiteShell(path).integer(sql)) ?? -1 }
      if name == "getfd" {
        let count = ask("SELECT count(*) FROM chunk")
        chunkCount.withLock { $0 = count }
      }
      if name == "cont" {
        let count = ask("SELECT count(*) FROM snapshot WHERE state = 'complete'")
        completeCount.withLock { $0 = count }
      }
    }
    defer { guest.end() }
    let outcome = try save(guest, "s")
    expectSuccess(outcome)
    let chunks = chunkCount.withLock { $0 }
    #expect(chunks >= 256, "\(chunks) chunks were stored before the guest was stopped")
    #expect(completeCount.withLock { $0 } == 0)
    // What was stored before is new all the same: each content once.
    let result = try outcome.jsonObject()
    let distinct = try bench.sql.integer(
      """
      SELECT count(DISTINCT e.chunk_id * 16 + s.value) FROM ram_extent e
        JOIN json_each('[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]') s
          ON s.value BETWEEN e.first_slot AND e.first_slot + e.page_count - 1
      """
    )
    #expect(result["new_pages"] as? Int == distinct)
    #expect(distinct >= 4096)
    #expect(result["stored_pages"] as? Int ?? 0 >= distinct)
  }

  /// "Saved in 0.2 s" and "Paused 501 ms" cannot both be true.
  @Test func theDurationHasAllOfThePauseInIt() throws {
    let guest = try WritingGuest(in: bench.directory, stillPageCount: 16) { name, _ in
      if name == "migrate" { usleep(700_000) }
    }
    defer { guest.end() }
    let outcome = try save(guest, "s")
    expectSuccess(outcome)
    let duration = try #require(try outcome.jsonObject()["duration_seconds"] as? Double)
    #expect(duration > 0.7)
    #expect(duration <= outcome.durationSeconds)
  }

  /// When a save is killed.
  enum Moment: String, CaseIterable, Sendable {
    /// While RAM is read and the guest runs.
    case running
    /// When the guest has just been stopped.
    case stopped
    /// When all was read, and the guest is about to go on.
    case settled
  }

  /// A save that is killed must leave a guest that runs, a store that is sound, and nothing in it that gc
  /// cannot free.
  @Test(.slow, arguments: Moment.allCases)
  func aKilledSaveLeavesNothing(moment: Moment) throws {
    let victim = Mutex<Int32?>(nil)
    let guest = try WritingGuest(in: bench.directory) { name, _ in
      let isIt =
        switch moment {
        case .running: name == "getfd"
        case .stopped: name == "migrate"
        case .settled: name == "cont"
        }
      guard isIt else { return }
      // The save may come so far before it is known which process it is.
      var process: Int32?
      while process == nil {
        process = victim.withLock { $0 }
        usleep(1000)
      }
      guard let process, process > 0 else { return }
      if moment == .running {
        // The test kills it, at the latest now: the guest is stopped next.
        while victim.withLock({ $0 }) != 0 { usleep(1000) }
      } else {
        victim.withLock { $0 = 0 }
        kill(process, SIGKILL)
      }
    }
    defer { guest.end() }
    defer { victim.withLock { $0 = 0 } }
    try bench.save("other", sampleRAM(64))
    let chunkCount = try bench.sql.integer("SELECT count(*) FROM chunk")
    let process = try bench.tool.start(["save", "qemu:\(guest.qemu.path)", "--name", "s"])
    victim.withLock { $0 = process.identifier }
    if moment == .running {
      try waitUntil("RAM is being stored") {
        try bench.sql.integer("SELECT count(*) FROM chunk") > chunkCount
      }
      process.send(SIGKILL)
    }
    let outcome = try process.wait()
    victim.withLock { $0 = 0 }
    #expect(outcome.ending == .signal(SIGKILL), "\(outcome)")
    try waitUntil("the guest runs") { guest.isRunning }
    #expect(guest.stopCount == (moment == .running ? 0 : 1))
    #expect(try bench.tool.snapshotNames() == ["other"])
    #expect(try bench.tool.verify().succeeded)
    expectSuccess(try bench.tool.run("gc"))
    #expect(try bench.sql.integer("SELECT count(*) FROM chunk") == chunkCount)
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot") == 1)
    let before = guest.stepCount
    expectSuccess(try save(guest, "s"))
    let problems = try guest.problems(of: bench.restore("s"), steps: before...guest.stepCount)
    #expect(problems.isEmpty, "\(problems)")
  }

  /// Ctrl-C while RAM is read: the guest need not even be stopped.
  @Test(.slow) func anInterruptedSaveHasNotStoppedItsGuest() throws {
    // All is read and stored when the save has a pipe for QEMU's stream: it is kept there until it has ended.
    let isOver = Mutex(false)
    let guest = try WritingGuest(in: bench.directory) { name, _ in
      guard name == "getfd" else { return }
      while !isOver.withLock({ $0 }) { usleep(1000) }
    }
    defer { guest.end() }
    defer { isOver.withLock { $0 = true } }
    try bench.save("other", sampleRAM(64))
    let chunkCount = try bench.sql.integer("SELECT count(*) FROM chunk")
    let process = try bench.tool.start(["save", "qemu:\(guest.qemu.path)", "--name", "s"])
    try waitUntil("RAM is being stored") {
      try bench.sql.integer("SELECT count(*) FROM chunk") > chunkCount
    }
    process.send(SIGINT)
    #expect(try process.wait().ending == .signal(SIGINT))
    #expect(guest.stopCount == 0)
    #expect(try bench.sql.integer("SELECT count(*) FROM chunk") == chunkCount)
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot") == 1)
  }

  /// QEMU refuses, after RAM was stored for nothing.
  @Test(.slow) func aRefusedMigrationLeavesNothing() throws {
    let guest = try WritingGuest(
      in: bench.directory,
      answer: { name, _ in
        name == "query-migrate" ? .result(#"{"status": "failed", "error-desc": "no"}"#) : nil
      }
    )
    defer { guest.end() }
    let outcome = try save(guest, "s")
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(guest.isRunning)
    #expect(try bench.sql.integer("SELECT count(*) FROM chunk") == 0)
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot") == 0)
  }

  /// A disk that is full before the guest is stopped must not stop it.
  @Test(.slow, .enabled(if: SmallFileSystem.canMount))
  func aFullDiskDoesNotStopTheGuest() throws {
    let disk = try SmallFileSystem(.tmpfs, megabyteCount: 4)
    let guest = try WritingGuest(in: bench.directory)
    defer { guest.end() }
    let tool = try VMCkptTool(storePath: "\(disk.path)/store.db")
    let outcome = try tool.start(["save", "qemu:\(guest.qemu.path)", "--name", "s"])
      .wait()
    #expect(outcome.ending == .exit(74), "\(outcome)")
    #expect(guest.stopCount == 0)
    #expect(guest.isRunning)
    #expect(try tool.snapshotNames().isEmpty)
    let sql = SQLiteShell("\(disk.path)/store.db")
    #expect(try sql.integer("SELECT count(*) FROM chunk") == 0)
    #expect(try sql.integer("SELECT count(*) FROM snapshot") == 0)
  }

  // MARK: --max-pause

  /// A guest whose pause would be too long must not even be stopped.
  @Test(.slow) func aPauseThatWouldBeTooLongIsNotBegun() throws {
    let guest = try WritingGuest(in: bench.directory)
    defer { guest.end() }
    let outcome = try save(guest, "s", "--max-pause", "1")
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(
      outcome.standardError.contains("the VM would be stopped for about "),
      "\(outcome)"
    )
    #expect(guest.stopCount == 0)
    try expectNothingStored()
    expectSuccess(try save(guest, "s", "--max-pause", "30000"))
    #expect(guest.stopCount == 1)
  }

  /// QEMU may take longer than anybody knew: the guest must go on in time all the same.
  @Test(.slow) func aPauseThatBecomesTooLongIsEnded() throws {
    let isStopped = Mutex(false)
    let guest = try WritingGuest(
      in: bench.directory,
      hotPageCount: 16,
      stillPageCount: 16
    ) { name, _ in
      if name == "migrate" { isStopped.withLock { $0 = true } }
      // Once is enough. An estimate from a slow look at RAM must stay below the limit.
      let isFirst = isStopped.withLock { isStopped -> Bool in
        defer { if name == "query-migrate" { isStopped = false } }
        return isStopped
      }
      if name == "query-migrate", isFirst { usleep(5_000_000) }
    }
    defer { guest.end() }
    let outcome = try save(guest, "s", "--max-pause", "4000")
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(
      outcome.standardError.contains("the VM would be stopped for longer than 4000 ms"),
      "\(outcome)"
    )
    #expect(guest.isRunning)
    #expect(guest.stopCount == 1)
    try expectNothingStored()
  }

  /// To store what has changed takes longer than to compare it.
  @Test(.slow) func moreThanCanBeKeptIsNotStoredWhileTheGuestWaits() throws {
    let guest = try WritingGuest(
      in: bench.directory,
      hotPageCount: Self.tooManyHotPages,
      stillPageCount: 16,
      pauseMicroseconds: 0
    ) { name, guest in
      if name == "migrate" { guest.hurry(Self.tooManyHotPages) }
    }
    defer { guest.end() }
    let outcome = try save(guest, "s", "--max-pause", "60000")
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(
      outcome.standardError.contains("the VM changes more of its RAM than can be kept"),
      "\(outcome)"
    )
    #expect(guest.isRunning)
    try expectNothingStored()
  }

  private func expectNothingStored() throws {
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot") == 0)
    #expect(try bench.sql.integer("SELECT count(*) FROM chunk") == 0)
  }
}
