import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Random operations on a manager and on the naive model, compared after each.
@Suite("OverlayManager against a naive model")
struct OverlayManagerModelTests {
  /// 8 × 320 sequences of 40 operations for each test.
  static let sequencesInBatch = 320
  static let operationsInSequence = 40

  @Test(
    "no sequence of operations shows the guest a wrong page or loses one",
    .slow,
    arguments: 0..<8
  )
  func sequencesWithoutFailures(batch: Int) throws {
    for sequence in 0..<Self.sequencesInBatch {
      var run = Run(seed: UInt64(batch * Self.sequencesInBatch + sequence), fails: false)
      for _ in 0..<Self.operationsInSequence {
        guard try run.step() else { return }
      }
    }
  }

  @Test("no failure of guest memory leaves records and RAM apart", .slow, arguments: 0..<8)
  func sequencesWithFailures(batch: Int) throws {
    for sequence in 0..<Self.sequencesInBatch {
      var run = Run(seed: UInt64(1_000_000 + batch * Self.sequencesInBatch + sequence), fails: true)
      for _ in 0..<Self.operationsInSequence {
        guard try run.step() else { return }
      }
    }
  }
}

private struct Run {
  /// RAM, and behind it one page that is none.
  static let ramPFNs = (0..<4).map { PFN(rawValue: 0x4000 + $0)! }
  static let allPFNs = ramPFNs + [PFN(rawValue: 0x9_0000)!]

  let seed: UInt64
  let fails: Bool
  var generator: OverlayTestGenerator
  var model: OverlayManagerModel
  let memory: FailingGuestMemory
  let manager: OverlayManager<FailingGuestMemory>

  /// Set this to read in a failure what led to it; it takes most of the time.
  static let keepsLog = false
  var log: [String] = []

  init(seed: UInt64, fails: Bool) {
    self.seed = seed
    self.fails = fails
    generator = OverlayTestGenerator(seed: seed)
    var pages: [PFN: PageContents] = [:]
    for pfn in Self.ramPFNs { pages[pfn] = generator.pageContents() }
    model = OverlayManagerModel(pages: pages)
    memory = FailingGuestMemory(pages: pages)
    manager = OverlayManager(memory: memory)
  }

  /// Does one operation and compares; `false` when they differ, after which there is no use in
  /// going on.
  mutating func step() throws -> Bool {
    let failureMode: FailingGuestMemory.FailureMode? =
      if fails, generator.oneIn(3) {
        generator.oneIn(2)
          ? .once(after: Int.random(in: 0..<6, using: &generator))
          : .always(after: Int.random(in: 0..<6, using: &generator))
      } else {
        nil
      }
    switch Int.random(in: 0..<10, using: &generator) {
    case 0..<3: add(failing: failureMode)
    case 3..<5: remove(failing: failureMode)
    case 5..<7: move(failing: failureMode)
    case 7: pauseOrResume(failing: failureMode)
    default: guestWrite()
    }
    return try compare()
  }

  private mutating func note(_ operation: @autoclosure () -> String) {
    if Self.keepsLog { log.append(operation()) }
  }

  private mutating func add(failing mode: FailingGuestMemory.FailureMode?) {
    let overlay = generator.overlay(
      at: Self.allPFNs.randomElement(using: &generator)!,
      vpCount: 2
    )
    note("add \(overlay) failing \(String(describing: mode))")
    let (_, error) = memory.recordingAccesses(failing: mode) { try manager.add(overlay) }
    guard model.allows(overlay) else {
      expectError(error, code: .invalidArgument)
      return
    }
    if error == nil { model.add(overlay) } else { expectFailure(error) }
  }

  private mutating func remove(failing mode: FailingGuestMemory.FailureMode?) {
    let (kind, vp, pfn) = target()
    note("remove \(kind) \(vp) \(pfn) failing \(String(describing: mode))")
    let expected = model.overlays.first { $0.kind == kind && $0.vp == vp && $0.pfn == pfn }
    var removed: Overlay?
    let (_, error) = memory.recordingAccesses(failing: mode) {
      removed = try manager.remove(kind, vp: vp, at: pfn)
    }
    guard let expected else {
      expectError(error, code: .notFound)
      return
    }
    if error == nil {
      #expect(removed == expected, "seed \(seed): \(log)")
      model.remove(kind, vp: vp, at: pfn)
    } else {
      expectFailure(error)
    }
  }

  private mutating func move(failing mode: FailingGuestMemory.FailureMode?) {
    let (kind, vp, source) = target()
    let destination = Self.allPFNs.randomElement(using: &generator)!
    note("move \(kind) \(vp) \(source) -> \(destination) failing \(String(describing: mode))")
    let (accesses, error) = memory.recordingAccesses(failing: mode) {
      try manager.move(kind, vp: vp, from: source, to: destination)
    }
    guard model.has(kind, vp: vp, at: source) else {
      expectError(error, code: .notFound)
      return
    }
    if source == destination {
      #expect(error == nil && accesses.isEmpty)
      return
    }
    let isRAM = Self.ramPFNs.contains(destination)
    guard isRAM || kind == .referenceTSC, !model.has(kind, vp: vp, at: destination) else {
      expectError(error, code: .invalidArgument)
      #expect(accesses.isEmpty, "seed \(seed): checked too late: \(log)")
      return
    }
    if error == nil {
      model.copy(kind, vp: vp, from: source, to: destination)
      model.remove(kind, vp: vp, at: source)
      return
    }
    expectFailure(error)
    switch accesses.count(where: \.failed) {
    case 1:
      // Undone; but what the guest wrote into a page that was covered meanwhile may be lost.
      if accesses.contains(where: { $0.pfn == destination && $0.isWrite && !$0.failed }) {
        model.copy(kind, vp: vp, from: source, to: destination)
        model.remove(kind, vp: vp, at: destination)
      }
    case 2:
      model.copy(kind, vp: vp, from: source, to: destination)
    default:
      Issue.record("seed \(seed): \(accesses)")
    }
  }

  private mutating func pauseOrResume(failing mode: FailingGuestMemory.FailureMode?) {
    let pauses = generator.oneIn(2)
    note("\(pauses ? "pause" : "resume") failing \(String(describing: mode))")
    let (accesses, error) = memory.recordingAccesses(failing: mode) {
      if pauses { try manager.pause() } else { try manager.resume() }
    }
    if error != nil { expectFailure(error) }
    let limit = accesses.first(where: \.failed)?.pfn
    #expect((error == nil) == (limit == nil))
    if pauses { model.pause(before: limit) } else { model.resume(before: limit) }
  }

  private mutating func guestWrite() {
    let pfn = Self.ramPFNs.randomElement(using: &generator)!
    let contents = generator.pageContents()
    note("write \(pfn)")
    memory[pfn] = contents
    model.write(contents, at: pfn)
  }

  /// An overlay that there is, mostly.
  private mutating func target() -> (OverlayKind, UInt32, PFN) {
    if !generator.oneIn(4), let overlay = model.overlays.randomElement(using: &generator) {
      return (overlay.kind, overlay.vp, overlay.pfn)
    }
    let kind = OverlayKind.allCases.randomElement(using: &generator)!
    let vp: UInt32 = kind.scope == .vp && generator.oneIn(2) ? 1 : 0
    return (kind, vp, Self.allPFNs.randomElement(using: &generator)!)
  }

  private func expectError(_ error: (any Error)?, code: VMCheckpointError.Code) {
    #expect((error as? VMCheckpointError)?.code == code, "seed \(seed): \(log)")
  }

  private func expectFailure(_ error: (any Error)?) {
    #expect(error is FailingGuestMemory.Failure, "seed \(seed): \(log)")
  }

  private func compare() throws -> Bool {
    for (pfn, page) in model.visiblePages where memory[pfn] != page {
      Issue.record("seed \(seed): RAM at \(pfn) differs after \(log)")
      return false
    }
    guard try manager.records == model.records, try manager.overlays == model.overlays,
      manager.isPaused == model.isPaused
    else {
      Issue.record("seed \(seed): records differ after \(log)")
      return false
    }
    return true
  }
}
