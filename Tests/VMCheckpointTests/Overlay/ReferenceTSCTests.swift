import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("Reference TSC")
struct ReferenceTSCTests {
  @Test("the scale is exact for every frequency")
  func scaleIsExact() {
    var generator = OverlayTestGenerator(seed: 1)
    let edges: [UInt64] = [10_000_001, 10_000_002, 2_400_000_000, 1 << 32, 1 << 63, .max - 1, .max]
    let random = (0..<10_000).map { index in max(10_000_001, generator.next() >> (index % 40)) }
    for hz in edges + random {
      let scale = UInt128(ReferenceTSC.scale(frequencyHz: hz)!)
      // ⌊n / hz⌋ is the one q with q · hz ≤ n < (q + 1) · hz.
      let numerator = UInt128(10_000_000) << 64
      #expect(scale * UInt128(hz) <= numerator, "\(hz) Hz")
      #expect(numerator - scale * UInt128(hz) < UInt128(hz), "\(hz) Hz")
    }
  }

  @Test("known scales", arguments: [(10_000_001, 0xffff_fe52_80d9_24c8), (.max, 10_000_000)])
  func knownScales(hz: UInt64, scale: UInt64) {
    #expect(ReferenceTSC.scale(frequencyHz: hz) == scale)
  }

  @Test(
    "a TSC too slow for the scale turns the page off instead of overflowing",
    arguments: [1, 9_999_999, 10_000_000] as [UInt64]
  )
  func slowTSC(hz: UInt64) throws {
    #expect(ReferenceTSC.scale(frequencyHz: hz) == nil)
    #expect(ReferenceTSC.frequency(hz: hz).fields == (0, 0, 0))
    #expect(
      try ReferenceTSC.page(sequence: 7, scale: 9, offset: -12).retargeted(frequencyHz: hz)
        == .page(sequence: 0, scale: 0, offset: -12)
    )
  }

  @Test("even a frequency of 0 that slipped through divides by nothing")
  func zeroFrequencyPage() {
    #expect(ReferenceTSC.frequency(hz: 0).fields == (0, 0, 0))
  }

  @Test(
    "a guest in the middle of its read loop notices the new scale",
    arguments: [
      (1, 2), (7, 8), (0xffff_fffd, 0xffff_fffe), (0xffff_fffe, 1), (0xffff_ffff, 1),
    ] as [(UInt32, UInt32)]
  )
  func sequenceChanges(before: UInt32, after: UInt32) throws {
    let scale = try #require(ReferenceTSC.scale(frequencyHz: 3_000_000_000))
    #expect(
      try ReferenceTSC.page(sequence: before, scale: 1, offset: .min)
        .retargeted(frequencyHz: 3_000_000_000)
        == .page(sequence: after, scale: scale, offset: .min)
    )
  }

  @Test("a page that the guest does not use is not put into use")
  func unusedPageStaysUnused() throws {
    let unused = ReferenceTSC.page(sequence: 0, scale: 5, offset: 6)
    #expect(try unused.retargeted(frequencyHz: 3_000_000_000) == unused)
  }

  @Test("a frequency becomes the new frequency")
  func frequency() throws {
    #expect(
      try ReferenceTSC.frequency(hz: 1).retargeted(frequencyHz: 3_000_000_000)
        == .frequency(hz: 3_000_000_000)
    )
  }

  @Test("frequencies that make no sense are refused", arguments: [0, 1 << 63, .max] as [UInt64])
  func badFrequency(hz: UInt64) {
    for referenceTSC in [
      ReferenceTSC.frequency(hz: 5), .page(sequence: 1, scale: 1, offset: 0),
      .page(sequence: 0, scale: 1, offset: 0),
    ] {
      let error = #expect(throws: VMCheckpointError.self) {
        try referenceTSC.retargeted(frequencyHz: hz)
      }
      #expect(error?.code == .invalidArgument)
      #expect(
        error?.message == "a TSC frequency is 1 to 9223372036854775807 Hz, not \(hz) Hz"
      )
    }
  }
}

@Suite("Retargeting")
struct RetargetingTests {
  @Test(
    "only vmcall and vmmcall depend on the CPU's vendor",
    arguments: HypercallVariant.allCases,
    CPUVendor.allCases
  )
  func variants(variant: HypercallVariant, vendor: CPUVendor) {
    let expected: HypercallVariant =
      switch (variant, vendor) {
      case (.vmcall, .amd): .vmmcall
      case (.vmmcall, .intel): .vmcall
      default: variant
      }
    #expect(variant.retargeted(to: vendor) == expected)
  }

  @Test("the vendor is that of the instruction in the page")
  func vendors() {
    for variant in HypercallVariant.allCases {
      let page = Overlay(pfn: .at(0), parameters: .hypercall(variant)).contents().bytes
      let instruction = zip(page, zip(page.dropFirst(), page.dropFirst(2)))
        .first { $0 == 0x0f && $1.0 == 0x01 }?.1.1
      let expected: CPUVendor? =
        switch instruction {
        case 0xc1: .intel
        case 0xd9: .amd
        default: nil
        }
      #expect(variant.cpuVendor == expected)
    }
  }

  @Test("retargeting changes neither place nor register bits, and nothing without a target")
  func overlays() throws {
    var generator = OverlayTestGenerator(seed: 2)
    for _ in 0..<500 {
      let overlay = generator.overlay(at: .at(0x4000))
      #expect(try overlay.retargeted(tscFrequencyHz: nil, cpuVendor: nil) == overlay)
      let retargeted = try overlay.retargeted(tscFrequencyHz: 3_000_000_000, cpuVendor: .amd)
      #expect(retargeted.pfn == overlay.pfn && retargeted.vp == overlay.vp)
      #expect(retargeted.kind == overlay.kind && retargeted.msrBits == overlay.msrBits)
      if let variant = overlay.parameters.hypercallVariant {
        #expect(retargeted.parameters == .hypercall(variant.retargeted(to: .amd)))
      } else if let page = overlay.parameters.referenceTSC {
        let expected = try page.retargeted(frequencyHz: 3_000_000_000)
        #expect(retargeted.parameters == .referenceTSC(expected))
      } else {
        #expect(retargeted == overlay)
      }
    }
  }

  @Test("a frequency of 0 is refused where it matters")
  func zeroFrequency() throws {
    let tsc = Overlay(pfn: .at(1), parameters: .referenceTSC(.frequency(hz: 1)))
    #expect(throws: VMCheckpointError.self) {
      try tsc.retargeted(tscFrequencyHz: 0, cpuVendor: nil)
    }
  }
}
