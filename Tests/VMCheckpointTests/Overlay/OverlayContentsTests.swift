import Testing
import VMCheckpoint

/// The exact bytes of every kind's page.
@Suite("Overlay contents")
struct OverlayContentsTests {
  struct HypercallCase: Sendable, CustomTestStringConvertible {
    var variant: HypercallVariant
    var code: [UInt8]
    var fill: UInt8 = 0
    var determinedByteCount: Int
    var testDescription: String { variant.rawValue }
  }

  static let hypercallCases = [
    HypercallCase(
      variant: .returnNotSupported,
      code: [0x48, 0xc7, 0xc0, 0x02, 0x00, 0x00, 0x00, 0xc3],
      determinedByteCount: 4096
    ),
    HypercallCase(variant: .vmcall, code: [0x0f, 0x01, 0xc1, 0xc3], determinedByteCount: 4),
    HypercallCase(variant: .vmmcall, code: [0x0f, 0x01, 0xd9, 0xc3], determinedByteCount: 4),
    HypercallCase(
      variant: .xenVMCall,
      code: [0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x01, 0xc1, 0xc3],
      determinedByteCount: 9
    ),
    HypercallCase(
      variant: .xenVMMCall,
      code: [0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x01, 0xd9, 0xc3],
      determinedByteCount: 9
    ),
    HypercallCase(
      variant: .openvmm,
      code: [
        0x0f, 0x01, 0xc1, 0xc3,  // 0x00: hypercall
        0x89, 0xc1, 0xb8, 0x11, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xc1, 0xc3,  // 0x04: 32-bit VTL call
        0x48, 0x89, 0xc8, 0xb9, 0x11, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xc1, 0xc3,  // 0x0f: 64-bit
        0x89, 0xc1, 0xb8, 0x12, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xc1, 0xc3,  // 0x1b: 32-bit return
        0x48, 0x89, 0xc8, 0xb9, 0x12, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xc1, 0xc3,  // 0x26: 64-bit
      ],
      fill: 0xcc,
      determinedByteCount: 4096
    ),
  ]

  @Test("a hypercall page never differs from its hypervisor's", arguments: hypercallCases)
  func hypercallPage(expected: HypercallCase) {
    let overlay = Overlay(pfn: .at(0x4000), parameters: .hypercall(expected.variant))
    let rest = [UInt8](repeating: expected.fill, count: 4096 - expected.code.count)
    #expect(overlay.contents().bytes == expected.code + rest)
    #expect(overlay.determinedByteCount == expected.determinedByteCount)
  }

  @Test("no hypercall variant goes untested")
  func everyVariantIsListed() {
    #expect(Self.hypercallCases.map(\.variant) == HypercallVariant.allCases)
    #expect(Self.hypercallCases.last?.code.count == 50)
  }

  @Test("the fields of a reference TSC page never move or change byte order")
  func referenceTSCPage() {
    let overlay = Overlay(
      pfn: .at(1),
      parameters: .referenceTSC(
        .page(sequence: 0x0403_0201, scale: 0x1817_1615_1413_1211, offset: -2)
      )
    )
    let fields: [UInt8] =
      [0x01, 0x02, 0x03, 0x04, 0, 0, 0, 0]
      + [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]
      + [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    #expect(overlay.contents().bytes == fields + [UInt8](repeating: 0, count: 4072))
    #expect(overlay.determinedByteCount == 24)
  }

  @Test("a reference TSC page from a frequency is Propolis's")
  func referenceTSCPageFromFrequency() {
    // 10⁷ · 2⁶⁴ / 2.4 · 10⁹ = 76861433640456465.06…
    let overlay = Overlay(
      pfn: .at(1),
      parameters: .referenceTSC(.frequency(hz: 2_400_000_000))
    )
    let scale = withUnsafeBytes(of: UInt64(76_861_433_640_456_465).littleEndian) { Array($0) }
    #expect(
      overlay.contents().bytes
        == [1, 0, 0, 0, 0, 0, 0, 0] + scale + [UInt8](repeating: 0, count: 4080)
    )
  }

  @Test(
    "the bytes of a page that the guest may write are never changed",
    arguments: OverlayKind.allCases.filter(\.storesContents)
  )
  func storedPage(kind: OverlayKind) throws {
    let contents = try #require(PageContents((0..<4096).map { UInt8(truncatingIfNeeded: $0) }))
    let parameters = try #require(OverlayParameters.stored(kind, contents))
    let overlay = Overlay(pfn: .at(1), parameters: parameters, vp: 3)
    #expect(overlay.contents() == contents)
    #expect(overlay.determinedByteCount == 4096)
    #expect(overlay.kind == kind)
  }

  @Test("a kind that derives its contents cannot be given any")
  func derivedKindsStoreNothing() {
    for kind in OverlayKind.allCases where !kind.storesContents {
      #expect(OverlayParameters.stored(kind, .zero) == nil)
    }
  }

  @Test("page contents have 4096 bytes and nothing prints them")
  func pageContents() {
    #expect(PageContents([]) == nil)
    #expect(PageContents([UInt8](repeating: 0, count: 4095)) == nil)
    #expect(PageContents([UInt8](repeating: 0, count: 4097)) == nil)
    let secret = PageContents([UInt8](repeating: 0x41, count: 4096))!
    #expect(!secret.isZero && PageContents.zero.isZero)
    #expect("\(secret) \(String(reflecting: secret))" == "page page")
    var dumped = ""
    dump(Overlay(pfn: .at(1), parameters: .synicEvent(secret)), to: &dumped)
    #expect(!dumped.contains("65"))
  }

  @Test("priorities are never renumbered and kinds never renamed")
  func kindsAreStable() {
    #expect(
      OverlayKind.allCases.map { "\($0.priority) \($0) \($0.scope) \($0.storesContents)" } == [
        "0 hypercall vm false", "1 reference-tsc vm false", "2 synic-message vp true",
        "3 synic-event vp true", "4 vp-assist vp true",
      ]
    )
    #expect(
      HypercallVariant.allCases.map(\.rawValue) == [
        "return-not-supported", "vmcall", "vmmcall", "xen-vmcall", "xen-vmmcall", "openvmm",
      ]
    )
    #expect(CPUVendor.allCases.map(\.rawValue) == ["intel", "amd"])
  }
}

extension PFN {
  /// A PFN that is known to be in range.
  static func at(_ rawValue: UInt64) -> PFN { PFN(rawValue: rawValue)! }
}
