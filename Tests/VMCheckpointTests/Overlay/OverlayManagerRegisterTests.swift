import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("OverlayManager.registerChanged")
struct OverlayManagerRegisterTests {
  private let memory = FailingGuestMemory(pages: [
    .at(0x10): .filled(0xaa), .at(0x11): .filled(0xbb),
  ])

  private func register(_ kind: OverlayKind, _ value: UInt64) -> OverlayMSR {
    OverlayMSR(kind: kind, value: value)
  }

  @Test("enabling, moving and disabling a register lays, moves and lifts its page")
  func lifeOfARegister() throws {
    let manager = OverlayManager(memory: memory)
    var old = register(.vpAssist, 0)
    func write(_ value: UInt64, _ fill: UInt8) throws {
      let new = register(.vpAssist, value)
      try manager.registerChanged(
        from: old,
        to: new,
        vp: 3,
        parameters: .vpAssist(.filled(fill))
      )
      old = new
    }
    try write(0x10000, 1)
    #expect(memory[.at(0x10)] == .filled(0xaa), "not enabled yet")
    try write(0x10001, 1)
    #expect(memory[.at(0x10)] == .filled(1))
    memory[.at(0x10)] = .filled(2)
    try write(0x11005, 1)
    #expect(memory[.at(0x10)] == .filled(0xaa))
    #expect(memory[.at(0x11)] == .filled(2), "what the guest wrote moves along")
    #expect(try manager.overlays.map { OverlayMSR($0).value } == [0x11005])
    #expect(try manager.overlays.map(\.vp) == [3])
    try write(0x11004, 1)
    #expect(memory[.at(0x11)] == .filled(0xbb))
    #expect(try manager.overlays.isEmpty)
  }

  @Test("other preserved bits reach the record and leave RAM alone")
  func bitsFollow() throws {
    let manager = OverlayManager(memory: memory)
    let (plain, locked) = (register(.hypercall, 0x10001), register(.hypercall, 0x10003))
    try manager.registerChanged(
      from: register(.hypercall, 0),
      to: plain,
      parameters: .hypercall(.vmcall)
    )
    let (accesses, error) = memory.recordingAccesses {
      try manager.registerChanged(from: plain, to: locked, parameters: .hypercall(.vmmcall))
    }
    #expect(accesses.isEmpty && error == nil)
    #expect(try manager.overlays.map { OverlayMSR($0) } == [locked])
    #expect(try manager.overlays.map(\.parameters) == [.hypercall(.vmcall)])
  }

  @Test(
    "a write that cannot be followed changes nothing",
    arguments: [0x99001, 0x99003] as [UInt64]
  )
  func refusedOutsideRAM(value: UInt64) throws {
    let manager = OverlayManager(memory: memory)
    let (disabled, enabled) = (register(.hypercall, 0), register(.hypercall, 0x10001))
    let outside = register(.hypercall, value)
    func change(from old: OverlayMSR, to new: OverlayMSR) throws {
      try manager.registerChanged(from: old, to: new, parameters: .hypercall(.vmcall))
    }
    #expect(throws: VMCheckpointError.self) { try change(from: disabled, to: outside) }
    #expect(try manager.overlays.isEmpty)
    try change(from: disabled, to: enabled)
    #expect(throws: VMCheckpointError.self) { try change(from: enabled, to: outside) }
    #expect(try manager.overlays.map { OverlayMSR($0) } == [enabled])
    #expect(
      memory[.at(0x10)] == Overlay(pfn: .at(0x10), parameters: .hypercall(.vmcall)).contents()
    )
  }

  @Test("a move that RAM interrupts keeps the place and the bits", arguments: 0..<4)
  func interruptedMove(accessCount: Int) throws {
    let manager = OverlayManager(memory: memory)
    let (old, new) = (register(.hypercall, 0x10001), register(.hypercall, 0x11007))
    try manager.registerChanged(
      from: register(.hypercall, 0),
      to: old,
      parameters: .hypercall(.vmcall)
    )
    let (_, error) = memory.recordingAccesses(failing: .once(after: accessCount)) {
      try manager.registerChanged(from: old, to: new, parameters: .hypercall(.vmcall))
    }
    let expected = error == nil ? new : old
    #expect(try manager.overlays.map { OverlayMSR($0) } == [expected])
    #expect(
      memory[expected == new ? .at(0x10) : .at(0x11)] == .filled(expected == new ? 0xaa : 0xbb)
    )
  }
}

@Suite("OverlayDocument.retargeted")
struct OverlayDocumentRetargetingTests {
  @Test("every record is retargeted, and keeps its underlay")
  func retargeted() throws {
    let records = [
      OverlayRecord(
        overlay: Overlay(pfn: .at(1), parameters: .hypercall(.vmcall)),
        underlay: .unknown
      ),
      OverlayRecord(
        overlay: Overlay(pfn: .at(2), parameters: .referenceTSC(.frequency(hz: 2_400_000_000)))
      ),
    ]
    let document = OverlayDocument(guestOSID: 7, records: records)
    let other = try document.retargeted(tscFrequencyHz: 3_000_000_000, cpuVendor: .amd)
    #expect(other.guestOSID == 7)
    #expect(other.records.map(\.underlay) == [.unknown, nil])
    #expect(
      other.records.map(\.overlay.parameters)
        == [.hypercall(.vmmcall), .referenceTSC(.frequency(hz: 3_000_000_000))]
    )
    #expect(try document.retargeted(tscFrequencyHz: nil, cpuVendor: nil) == document)
    #expect(throws: VMCheckpointError.self) {
      try document.retargeted(tscFrequencyHz: 0, cpuVendor: nil)
    }
  }
}
