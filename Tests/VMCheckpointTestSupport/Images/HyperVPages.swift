/// What KVM writes into a guest's RAM for Hyper-V, and the registers that place it.
package struct HyperVPages {
  package static let guestOSID: UInt64 = 0x8100_0601_0000_0000

  /// Of one vCPU: its VP assist, SynIC message and SynIC event pages are at PFN 20, 30 and 40 and its number.
  package static func registers(vp: UInt64) -> [(index: UInt32, data: UInt64)] {
    [
      (0x10, 0x1234_5678_9abc), (0x4000_0000, guestOSID), (0x4000_0001, 0x10 << 12 | 1),
      (0x4000_0002, vp), (0x4000_0020, 77 + vp), (0x4000_0021, 0x11 << 12 | 1),
      (0x4000_0073, (20 + vp) << 12 | 1), (0x4000_0083, (30 + vp) << 12 | 0x801),
      (0x4000_0082, (40 + vp) << 12),
    ]
  }

  /// Puts the pages into RAM that begins at GPA 0: of AMD's hypercall, and a reference TSC page.
  package static func put(into ram: inout [UInt8]) {
    func put(_ bytes: [UInt8], at offset: Int) {
      ram.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
    }
    put([0x0f, 0x01, 0xd9, 0xc3], at: 0x10 << 12)
    put(
      [3, 0, 0, 0, 0, 0, 0, 0] + number(0x6666_6666_0000_0000) + number(.max - 99),
      at: 0x11 << 12
    )
    for vp in 0..<2 {
      put([UInt8](repeating: UInt8(0xa0 + vp), count: 4096), at: (20 + vp) << 12)
      put([UInt8](repeating: UInt8(0xb0 + vp), count: 4096), at: (30 + vp) << 12)
    }
  }

  private static func number(_ value: UInt64) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}
