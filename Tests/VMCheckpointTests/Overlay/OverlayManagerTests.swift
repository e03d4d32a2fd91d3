import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("OverlayManager")
struct OverlayManagerTests {
  private let pfn = PFN.at(0x4000)
  private let other = PFN.at(0x4001)
  private let outside = PFN.at(0x9_0000)
  private let memory = FailingGuestMemory(pages: [
    .at(0x4000): .filled(0xaa), .at(0x4001): .filled(0xbb),
  ])

  private func hypercall(at pfn: PFN) -> Overlay {
    Overlay(pfn: pfn, parameters: .hypercall(.vmcall))
  }

  private func assist(_ fill: UInt8, vp: UInt32 = 0, at pfn: PFN) -> Overlay {
    Overlay(pfn: pfn, parameters: .vpAssist(.filled(fill)), vp: vp)
  }

  @Test("the underlay returns when the last overlay leaves, in whatever order they came")
  func underlayReturns() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(assist(1, vp: 1, at: pfn))
    try manager.add(hypercall(at: pfn))
    try manager.add(assist(0, vp: 0, at: pfn))
    #expect(memory[pfn] == hypercall(at: pfn).contents())
    #expect(try manager.overlays.map(\.vp) == [0, 0, 1])
    try manager.remove(.hypercall, at: pfn)
    #expect(memory[pfn] == .filled(0))
    try manager.remove(.vpAssist, vp: 0, at: pfn)
    #expect(memory[pfn] == .filled(1))
    try manager.remove(.vpAssist, vp: 1, at: pfn)
    #expect(memory[pfn] == .filled(0xaa))
    #expect(try manager.overlays.isEmpty)
  }

  @Test("a pending overlay is not shown, nor does removing it touch RAM")
  func pending() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(hypercall(at: pfn))
    let (accesses, error) = memory.recordingAccesses {
      try manager.add(assist(1, at: pfn))
      try manager.remove(.vpAssist, at: pfn)
    }
    #expect(accesses.isEmpty && error == nil)
  }

  @Test("what the guest wrote is kept when its page is covered, moved and removed")
  func guestWritesAreKept() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(assist(1, at: pfn))
    memory[pfn] = .filled(2)
    try manager.add(hypercall(at: pfn))
    try manager.remove(.hypercall, at: pfn)
    #expect(memory[pfn] == .filled(2))
    memory[pfn] = .filled(3)
    try manager.move(.vpAssist, from: pfn, to: other)
    #expect(memory[pfn] == .filled(0xaa))
    #expect(memory[other] == .filled(3))
    memory[other] = .filled(4)
    #expect(try manager.remove(.vpAssist, at: other) == assist(4, at: other))
    #expect(memory[other] == .filled(0xbb))
  }

  @Test("a snapshot of a running guest has what the guest wrote last")
  func overlaysAreCurrent() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(assist(1, at: pfn))
    memory[pfn] = .filled(2)
    #expect(
      try manager.records
        == [OverlayRecord(overlay: assist(2, at: pfn), underlay: .page(.filled(0xaa)))]
    )
    try manager.pause()
    #expect(memory[pfn] == .filled(0xaa))
    var records: [OverlayRecord] = []
    let (accesses, error) = memory.recordingAccesses { records = try manager.records }
    #expect(accesses.isEmpty && error == nil)
    #expect(records == [OverlayRecord(overlay: assist(2, at: pfn))])
  }

  @Test("RAM that was loaded while paused lies beneath the overlays after resuming")
  func resumeTakesNewUnderlay() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(hypercall(at: pfn))
    try manager.pause()
    memory[pfn] = .filled(0xcc)
    try manager.resume()
    #expect(memory[pfn] == hypercall(at: pfn).contents())
    try manager.remove(.hypercall, at: pfn)
    #expect(memory[pfn] == .filled(0xcc))
  }

  @Test("while paused, RAM stays bare whatever is added, moved and removed")
  func changesWhilePaused() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(hypercall(at: pfn))
    try manager.pause()
    let (accesses, error) = memory.recordingAccesses {
      try manager.add(assist(1, at: pfn))
      try manager.remove(.hypercall, at: pfn)
      try manager.move(.vpAssist, from: pfn, to: other)
      try manager.pause()
    }
    #expect(accesses.isEmpty && error == nil && manager.isPaused)
    try manager.resume()
    #expect(memory[pfn] == .filled(0xaa))
    #expect(memory[other] == .filled(1))
  }

  @Test("a reference TSC page outside RAM is kept but applied nowhere")
  func referenceTSCOutsideRAM() throws {
    let manager = OverlayManager(memory: memory)
    let overlay = Overlay(pfn: outside, parameters: .referenceTSC(.frequency(hz: 3_000_000_000)))
    let (accesses, error) = memory.recordingAccesses {
      try manager.add(overlay)
      try manager.pause()
      try manager.resume()
    }
    #expect(accesses.isEmpty && error == nil)
    #expect(try manager.records == [OverlayRecord(overlay: overlay)])
    try manager.move(.referenceTSC, from: outside, to: pfn)
    #expect(memory[pfn] == overlay.contents())
    try manager.move(.referenceTSC, from: pfn, to: outside)
    #expect(memory[pfn] == .filled(0xaa))
  }

  @Test("what the rules forbid is refused before anything happens, with a message that says what")
  func refusals() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(hypercall(at: pfn))
    try manager.add(assist(1, vp: 3, at: other))
    try manager.add(hypercall(at: other))
    func expect(
      _ message: String,
      _ code: VMCheckpointError.Code,
      _ operation: () throws -> Void
    ) {
      let (accesses, error) = memory.recordingAccesses(operation)
      #expect(error as? VMCheckpointError == VMCheckpointError(code, message))
      #expect(accesses.isEmpty)
    }
    expect("there is a hypercall overlay at PFN 0x4000 already", .invalidArgument) {
      try manager.add(hypercall(at: pfn))
    }
    expect("there is a hypercall overlay at PFN 0x4001 already", .invalidArgument) {
      try manager.move(.hypercall, from: pfn, to: other)
    }
    expect("the hypercall overlay at PFN 0x90000 is outside the guest's RAM", .invalidArgument) {
      try manager.add(hypercall(at: outside))
    }
    expect(
      "the vp-assist overlay of VP 3 at PFN 0x90000 is outside the guest's RAM",
      .invalidArgument
    ) {
      try manager.move(.vpAssist, vp: 3, from: other, to: outside)
    }
    expect(
      "tsc_frequency_hz of the reference-tsc overlay at PFN 0x4000 is out of range: "
        + "expected 1 to \(Int64.max)",
      .invalidArgument
    ) {
      try manager.add(Overlay(pfn: pfn, parameters: .referenceTSC(.frequency(hz: 0))))
    }
    expect("there is no vp-assist overlay of VP 2 at PFN 0x4001", .notFound) {
      try manager.remove(.vpAssist, vp: 2, at: other)
    }
    expect("there is no reference-tsc overlay at PFN 0x4000", .notFound) {
      try manager.move(.referenceTSC, from: pfn, to: pfn)
    }
    #expect(try manager.overlays.count == 3)
  }

  @Test("a virtual processor given for an overlay of the VM does not hide it")
  func vpIsIgnoredForVMScope() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(hypercall(at: pfn))
    try manager.remove(.hypercall, vp: 5, at: pfn)
    #expect(try manager.overlays.isEmpty)
  }

  @Test("a move that cannot be undone leaves the overlay at both pages, in RAM and records")
  func moveThatCannotBeUndone() throws {
    let manager = OverlayManager(memory: memory)
    try manager.add(assist(1, at: pfn))
    // Read the page, read and write the destination; then nothing works any more.
    let (_, error) = memory.recordingAccesses(failing: .always(after: 3)) {
      try manager.move(.vpAssist, from: pfn, to: other)
    }
    #expect(error is FailingGuestMemory.Failure)
    #expect(memory[pfn] == .filled(1) && memory[other] == .filled(1))
    #expect(try manager.overlays == [assist(1, at: pfn), assist(1, at: other)])
    try manager.remove(.vpAssist, at: pfn)
    try manager.remove(.vpAssist, at: other)
    #expect(memory[pfn] == .filled(0xaa) && memory[other] == .filled(0xbb))
  }

  @Test("a pause that failed half way can be finished or taken back")
  func failedPause() throws {
    for finishes in [true, false] {
      let manager = OverlayManager(memory: memory)
      try manager.add(hypercall(at: pfn))
      try manager.add(hypercall(at: other))
      let (_, error) = memory.recordingAccesses(failing: .always(after: 1)) { try manager.pause() }
      #expect(error is FailingGuestMemory.Failure)
      #expect(!manager.isPaused)
      #expect(memory[pfn] == .filled(0xaa))
      #expect(memory[other] == hypercall(at: other).contents())
      if finishes {
        try manager.pause()
        #expect(manager.isPaused && memory[other] == .filled(0xbb))
      }
      try manager.resume()
      #expect(memory[pfn] == hypercall(at: pfn).contents())
      #expect(memory[other] == hypercall(at: other).contents())
      try manager.pause()
    }
  }

  @Test("many threads cannot add one overlay twice or lose one")
  func threads() async throws {
    let pages = Dictionary(uniqueKeysWithValues: (0..<64).map { (PFN.at($0), PageContents.zero) })
    let manager = OverlayManager(memory: FailingGuestMemory(pages: pages))
    let addedCount = await withTaskGroup { group in
      for thread in 0..<8 {
        group.addTask {
          (0..<64).count { page in
            let overlay = Overlay(
              pfn: .at(UInt64(page)),
              parameters: .synicEvent(.zero),
              vp: UInt32(thread / 2)
            )
            return (try? manager.add(overlay)) != nil
          }
        }
      }
      return await group.reduce(0, +)
    }
    #expect(addedCount == 4 * 64)
    #expect(try manager.overlays.count == 4 * 64)
  }
}

@Suite("OverlayManager restoring a plan")
struct OverlayManagerRestoreTests {
  private let pfn = PFN.at(1)

  private func plan(_ records: [OverlayRecord]) throws -> OverlayPlan {
    try OverlayDocument(guestOSID: nil, records: records)
      .validated(in: RAMLayout(contiguousByteCount: 4 * 4096))
  }

  private func memory(_ page: PageContents) -> FailingGuestMemory {
    var pages = Dictionary(uniqueKeysWithValues: (0..<4).map { (PFN.at($0), PageContents.zero) })
    pages[pfn] = page
    return FailingGuestMemory(pages: pages)
  }

  private let hypercall = Overlay(pfn: .at(1), parameters: .hypercall(.vmcall))

  @Test("bare RAM is covered by resuming, not before")
  func bareRAM() throws {
    let memory = memory(.filled(0xaa))
    let plan = try plan([OverlayRecord(overlay: hypercall)])
    let (accesses, _) = memory.recordingAccesses {
      let manager = try OverlayManager(restoring: plan, in: memory)
      #expect(manager.isPaused)
    }
    #expect(accesses.isEmpty)
    let manager = try OverlayManager(restoring: plan, in: memory)
    try manager.resume()
    #expect(memory[pfn] == hypercall.contents())
    try manager.pause()
    #expect(memory[pfn] == .filled(0xaa))
  }

  @Test("RAM that shows the overlay already does not become its own underlay")
  func coveredRAM() throws {
    for (underlay, expected) in [
      (CapturedUnderlay.zero, PageContents.zero), (.page(.filled(0xaa)), .filled(0xaa)),
    ] {
      let memory = memory(hypercall.contents())
      let manager = try OverlayManager(
        restoring: plan([OverlayRecord(overlay: hypercall, underlay: underlay)]),
        in: memory
      )
      try manager.resume()
      #expect(memory[pfn] == hypercall.contents())
      #expect(
        try manager.records == [OverlayRecord(overlay: hypercall, underlay: underlay)]
      )
      try manager.remove(.hypercall, at: pfn)
      #expect(memory[pfn] == expected)
    }
  }

  @Test("baked bytes are never lost, and the record stays marked")
  func bakedRAM() throws {
    func baked(_ opcode: UInt8) -> PageContents {
      PageContents([0x0f, 0x01, opcode, 0xc3] + PageContents.filled(7).bytes.dropFirst(4))!
    }
    let memory = memory(baked(0xd9))
    let record = OverlayRecord(overlay: hypercall, underlay: .unknown)
    let manager = try OverlayManager(restoring: plan([record]), in: memory)
    #expect(try manager.records == [record])
    try manager.resume()
    // KVM would have written no more than the instructions.
    #expect(memory[pfn] == baked(0xc1))
    #expect(try manager.records == [record])
    try manager.pause()
    #expect(memory[pfn] == baked(0xd9))
    #expect(try manager.records == [record])
    try manager.resume()
    try manager.add(Overlay(pfn: pfn, parameters: .vpAssist(.filled(1)), vp: 0))
    try manager.remove(.hypercall, at: pfn)
    #expect(memory[pfn] == .filled(1))
    try manager.add(hypercall)
    #expect(memory[pfn] == baked(0xc1))
    try manager.remove(.vpAssist, at: pfn)
    try manager.remove(.hypercall, at: pfn)
    #expect(memory[pfn] == baked(0xd9))
  }

  @Test("a plan for other RAM is refused")
  func otherRAM() throws {
    let plan = try plan([OverlayRecord(overlay: hypercall)])
    let error = #expect(throws: VMCheckpointError.self) {
      try OverlayManager(restoring: plan, in: FailingGuestMemory(pages: [.at(0): .zero]))
    }
    #expect(error?.message == "the hypercall overlay at PFN 0x1 is outside the guest's RAM")
  }

  @Test("RAM and records of one manager make the same guest in another")
  func handOver() throws {
    var generator = OverlayTestGenerator(seed: 6)
    for round in 0..<200 {
      let pages = Dictionary(
        uniqueKeysWithValues: (0..<4).map { (PFN.at($0), generator.pageContents()) }
      )
      let source = FailingGuestMemory(pages: pages)
      let first = OverlayManager(memory: source)
      for _ in 0..<8 {
        let overlay = generator.overlay(at: .at(UInt64(generator.next() % 5)), vpCount: 2)
        try? first.add(overlay)
      }
      if round % 2 == 0 { try first.pause() }
      let loaded = FailingGuestMemory(
        pages: Dictionary(uniqueKeysWithValues: pages.keys.map { ($0, source[$0]) })
      )
      let second = try OverlayManager(restoring: plan(first.records), in: loaded)
      try first.resume()
      try second.resume()
      for pfn in pages.keys { #expect(loaded[pfn] == source[pfn]) }
      #expect(try second.records == first.records)
      try first.pause()
      try second.pause()
      for pfn in pages.keys {
        #expect(loaded[pfn] == source[pfn])
        #expect(loaded[pfn] == pages[pfn])
      }
    }
  }
}

extension PageContents {
  /// A page with `byte` everywhere.
  static func filled(_ byte: UInt8) -> PageContents {
    PageContents([UInt8](repeating: byte, count: 4096))!
  }
}
