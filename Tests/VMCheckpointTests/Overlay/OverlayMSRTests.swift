import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("Overlay registers")
struct OverlayMSRTests {
  @Test("register numbers are the TLFS's")
  func indices() {
    let expected: [OverlayKind: UInt32] = [
      .hypercall: 0x4000_0001, .referenceTSC: 0x4000_0021, .vpAssist: 0x4000_0073,
      .synicEvent: 0x4000_0082, .synicMessage: 0x4000_0083,
    ]
    for kind in OverlayKind.allCases {
      #expect(kind.msrIndex == expected[kind])
      #expect(OverlayKind(msrIndex: kind.msrIndex) == kind)
    }
    #expect(OverlayKind(msrIndex: GuestOSID.msrIndex) == nil)
    #expect(GuestOSID.msrIndex == 0x4000_0000)
  }

  @Test("no bit of an enabled register is lost on the way through an overlay")
  func valueRoundTrip() throws {
    var generator = OverlayTestGenerator(seed: 3)
    for kind in OverlayKind.allCases {
      let edges: [UInt64] = [1, .max, 0xfff, 0xffff_ffff_ffff_f001]
      for value in edges + (0..<1000).map({ _ in generator.next() | 1 }) {
        let register = OverlayMSR(kind: kind, value: value)
        let overlay = try #require(
          register.overlay(vp: 7, parameters: generator.parameters(of: kind))
        )
        #expect(OverlayMSR(overlay) == register)
        #expect(overlay.vp == (kind.scope == .vp ? 7 : 0))
        #expect(overlay.pfn.rawValue == value >> 12)
        #expect(overlay.msrBits.rawValue == UInt16(value & 0xffe))
      }
    }
  }

  @Test("an overlay comes back from its register")
  func overlayRoundTrip() {
    var generator = OverlayTestGenerator(seed: 4)
    for _ in 0..<1000 {
      let overlay = generator.overlay(at: .at(generator.edgyUInt64() & PFN.max.rawValue))
      #expect(
        OverlayMSR(overlay).overlay(vp: overlay.vp, parameters: overlay.parameters) == overlay
      )
    }
  }

  @Test("a disabled register places no overlay, whatever its other bits")
  func disabled() {
    var generator = OverlayTestGenerator(seed: 5)
    for kind in OverlayKind.allCases {
      let edges: [UInt64] = [0, 2, .max - 1]
      for value in edges + (0..<100).map({ _ in generator.next() & ~1 }) {
        let register = OverlayMSR(kind: kind, value: value)
        #expect(!register.isEnabled)
        #expect(register.overlay(vp: 0, parameters: generator.parameters(of: kind)) == nil)
      }
    }
  }

  @Test("bits that belong to the PFN and the enable bit never get into the preserved ones")
  func bitsAreMasked() {
    #expect(OverlayMSRBits(rawValue: .max).rawValue == 0xffe)
    #expect(OverlayMSRBits.locked.rawValue == 2)
    #expect(!OverlayMSR(kind: .vpAssist, value: 3).isLocked)
  }

  @Test(
    "guest OS IDs",
    arguments: [
      (0, nil, "not set"),
      (
        0x8100_0006_0100_0000,
        .openSource(type: 1, osID: 0, version: 0x06_0100, build: 0), "Linux 6.1.0"
      ),
      (
        0xff12_3456_789a_bcde,
        .openSource(type: 0x7f, osID: 0x12, version: 0x3456_789a, build: 0xbcde),
        "open-source type 127 OS 18 version 0x3456789a build 48350"
      ),
      (
        0x8200_0000_0001_0002, .openSource(type: 2, osID: 0, version: 1, build: 2),
        "FreeBSD OS 0 version 0x1 build 2"
      ),
      (
        0x0001_0406_0300_4a61,
        .proprietary(
          vendor: 1,
          operatingSystem: 4,
          major: 6,
          minor: 3,
          service: 0,
          build: 0x4a61
        ),
        "Microsoft OS 4 6.3.0 build 19041"
      ),
      (
        0x7fff_0102_0304_0506,
        .proprietary(
          vendor: 0x7fff,
          operatingSystem: 1,
          major: 2,
          minor: 3,
          service: 4,
          build: 0x0506
        ),
        "vendor 32767 OS 1 2.3.4 build 1286"
      ),
    ] as [(UInt64, GuestOSID.Identity?, String)]
  )
  func guestOSID(value: UInt64, identity: GuestOSID.Identity?, description: String) {
    #expect(GuestOSID(rawValue: value).identity == identity)
    #expect(GuestOSID(rawValue: value).description == description)
  }
}

@Suite("Hypercall registers")
struct HypercallRegistersTests {
  @Test("the page cannot be enabled before the guest has said what it is")
  func guestOSIDComesFirst() {
    var registers = HypercallRegisters()
    registers.writeHypercall(0x4000_001)
    #expect(registers.hypercall.value == 0x4000_000)
    registers.writeGuestOSID(0x8100_0000_0000_0000)
    registers.writeHypercall(0x4000_001)
    #expect(registers.hypercall.isEnabled)
    #expect(registers.hypercall.pfn == .at(0x4000))
  }

  @Test("a locked page neither moves nor goes until reset")
  func locked() {
    var registers = HypercallRegisters(guestOSID: GuestOSID(rawValue: 1), hypercall: 0x4000_003)
    #expect(registers.hypercall.isLocked)
    for value in [0, 0x5000_001, 0x5000_003] as [UInt64] {
      let tookEffect = registers.writeHypercall(value)
      #expect(!tookEffect)
      #expect(registers.hypercall.value == 0x4000_003)
    }
    registers.reset()
    #expect(registers == HypercallRegisters())
    registers.writeGuestOSID(1)
    let tookEffect = registers.writeHypercall(0x5000_001)
    #expect(tookEffect)
    #expect(registers.hypercall.pfn == .at(0x5000))
  }

  @Test("a guest OS ID of 0 disables even a locked page")
  func zeroGuestOSID() {
    var registers = HypercallRegisters(guestOSID: GuestOSID(rawValue: 1), hypercall: 0x4000_003)
    registers.writeGuestOSID(0)
    #expect(registers.hypercall.value == 0x4000_002)
    let tookEffect = registers.writeHypercall(0x4000_001)
    #expect(!tookEffect)
  }
}
