import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// The overlay rules that need the whole document and the guest's RAM.
@Suite("overlays.json: validation")
struct OverlayPlanTests {
  /// RAM at PFN 0…3 and 0x100…0x103.
  private func layout() throws -> RAMLayout {
    try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: 4 * 4096, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: 0x10_0000, byteCount: 4 * 4096, fileOffset: 4 * 4096, name: "high"),
    ])
  }

  private func hypercall(
    _ pfn: UInt64,
    _ underlay: CapturedUnderlay? = nil
  ) -> OverlayRecord {
    OverlayRecord(
      overlay: Overlay(pfn: .at(pfn), parameters: .hypercall(.vmcall)),
      underlay: underlay
    )
  }

  private func tsc(
    _ pfn: UInt64,
    _ underlay: CapturedUnderlay? = nil,
    hz: UInt64 = 5
  ) -> OverlayRecord {
    OverlayRecord(
      overlay: Overlay(pfn: .at(pfn), parameters: .referenceTSC(.frequency(hz: hz))),
      underlay: underlay
    )
  }

  private func assist(
    _ pfn: UInt64,
    vp: UInt32,
    _ underlay: CapturedUnderlay? = nil
  ) -> OverlayRecord {
    OverlayRecord(
      overlay: Overlay(pfn: .at(pfn), parameters: .vpAssist(.zero), vp: vp),
      underlay: underlay
    )
  }

  @Test("stacks come by PFN and priority, whatever the order of the records")
  func order() throws {
    let records = [
      assist(0x101, vp: 1), tsc(0x101), assist(2, vp: 0), assist(0x101, vp: 0),
      hypercall(0x101, .page(.filled(9))), tsc(0x99),
    ]
    let expected: [(pfn: UInt64, isInRAM: Bool, overlays: [Int], underlay: CapturedUnderlay?)] = [
      (2, true, [2], nil), (0x99, false, [5], nil),
      (0x101, true, [4, 1, 3, 0], .page(.filled(9))),
    ]
    var generator = OverlayTestGenerator(seed: 10)
    for _ in 0..<20 {
      let plan = try OverlayDocument(
        guestOSID: 1,
        records: records.shuffled(using: &generator)
      ).validated(in: layout())
      #expect(plan.stacks.count == expected.count)
      for (stack, expected) in zip(plan.stacks, expected) {
        #expect(stack.pfn == .at(expected.pfn))
        #expect(stack.isInRAM == expected.isInRAM)
        #expect(stack.overlays == expected.overlays.map { records[$0].overlay })
        #expect(stack.underlay == expected.underlay)
        #expect(stack.active == (expected.isInRAM ? stack.overlays[0] : nil))
        #expect(!stack.isBaked)
      }
    }
  }

  @Test("records of one PFN may agree about its underlay in different words")
  func agreement() throws {
    let plan = try OverlayDocument(
      guestOSID: nil,
      records: [
        hypercall(1, .page(.zero)), tsc(1), assist(1, vp: 0, .zero), assist(2, vp: 0, .unknown),
        assist(2, vp: 1, .unknown),
      ]
    ).validated(in: layout())
    #expect(plan.stacks.map(\.underlay) == [.zero, .unknown])
    #expect(plan.stacks.map(\.isBaked) == [false, true])
  }

  @Test("what the rules refuse is refused with the record's place")
  func refusals() throws {
    func expect(
      _ message: String,
      guestOSID: UInt64? = nil,
      _ records: OverlayRecord...,
      sourceLocation: SourceLocation = #_sourceLocation
    ) {
      let error = #expect(throws: VMCheckpointError.self, sourceLocation: sourceLocation) {
        try OverlayDocument(guestOSID: guestOSID, records: records).validated(in: layout())
      }
      #expect(error?.code == .invalidData, sourceLocation: sourceLocation)
      #expect(error?.message == message, sourceLocation: sourceLocation)
    }
    expect(
      "overlays[1]: a hypercall overlay cannot be enabled while guest_os_id is 0",
      guestOSID: 0,
      tsc(1),
      hypercall(1)
    )
    expect("overlays[0].pfn: 0x4 is outside the guest's RAM", hypercall(4))
    expect("overlays[1].pfn: 0xff is outside the guest's RAM", tsc(0xff), assist(0xff, vp: 0))
    expect("overlays[0].pfn: 0xfffffffffffff is outside the guest's RAM", hypercall((1 << 52) - 1))
    expect(
      "overlays[0].underlay: nothing lies beneath PFN 0x104, which is outside the guest's RAM",
      tsc(0x104, .zero)
    )
    expect(
      "overlays[2]: a second hypercall overlay at PFN 0x1, beside overlays[0]",
      hypercall(1),
      tsc(1),
      hypercall(1)
    )
    expect(
      "overlays[3]: a second vp-assist overlay of VP 7 at PFN 0x1, beside overlays[1]",
      assist(1, vp: 6),
      assist(1, vp: 7),
      hypercall(1),
      assist(1, vp: 7)
    )
    expect(
      "overlays[1]: a second reference-tsc overlay at PFN 0x99, beside overlays[0]",
      tsc(0x99, hz: 1),
      tsc(0x99, hz: 2)
    )
    expect(
      "overlays[0].underlay: disagrees with overlays[2] about what lies beneath PFN 0x1",
      assist(1, vp: 0, .page(.filled(1))),
      tsc(1),
      hypercall(1, .zero)
    )
    expect(
      "overlays[1].underlay: disagrees with overlays[0] about what lies beneath PFN 0x1",
      hypercall(1, .unknown),
      tsc(1, .zero)
    )
    for hz in [0, 1 << 63] as [UInt64] {
      expect(
        "overlays[0].tsc_frequency_hz: out of range: expected 1 to 9223372036854775807",
        tsc(1, hz: hz)
      )
    }
  }

  @Test("a guest OS ID of 0 matters for hypercall pages only")
  func guestOSID() throws {
    _ = try OverlayDocument(guestOSID: 0, records: [tsc(1)]).validated(in: layout())
    _ = try OverlayDocument(guestOSID: nil, records: [hypercall(1)]).validated(in: layout())
  }

  @Test("validating as many records as there may be takes no quadratic time")
  func manyRecords() throws {
    let records = (0..<OverlayDocument.maximumRecordCount).map { vp in
      assist(1, vp: UInt32(vp), .zero)
    }
    let plan = try OverlayDocument(guestOSID: nil, records: records).validated(in: layout())
    #expect(plan.stacks.map(\.overlays.count) == [OverlayDocument.maximumRecordCount])
  }

  @Test("no more overlays than an overlays.json can hold")
  func count() throws {
    let most = OverlayDocument.maximumRecordCount
    let records = (0..<UInt64(most)).map { tsc(0x1000 + $0) }
    _ = try OverlayDocument(guestOSID: nil, records: records).validated(in: layout())
    let error = #expect(throws: VMCheckpointError.self) {
      try OverlayDocument(guestOSID: nil, records: records + [tsc(1)]).validated(in: layout())
    }
    #expect(error?.code == .invalidData)
    #expect(
      error?.message == "16385 overlays are more than the 16384 that overlays.json can hold"
    )
  }
}
