import VMCheckpoint

/// Where things are in the guest's RAM, and how it looks before the guest runs.
enum GuestMemoryMap {
  /// 1 MiB from GPA 0.
  static let byteCount = 1 << 20

  /// Page tables: one 2 MiB page, mapped one to one.
  static let pageMapLevel4: UInt64 = 0x1000
  private static let pageDirectoryPointers: UInt64 = 0x2000
  private static let pageDirectory: UInt64 = 0x3000

  /// The stack grows down from here.
  static let stackEnd: UInt64 = 0x8000

  /// ``GuestProgram/code``.
  static let code: UInt64 = 0x8000

  /// What the guest is about to report.
  static let report: UInt64 = 0x9000

  /// The page that the guest enables for hypercalls.
  static let hypercallPFN = PFN(gpa: 0x10000)

  /// The page that the guest enables for its reference TSC, unless the two are stacked.
  static let referenceTSCPFN = PFN(gpa: 0x11000)

  /// Writes page tables and code into RAM.
  static func load(into ram: MappedRAM) {
    // Intel SDM volume 3A, 4.5: bit 0 present, bit 1 writable, bit 7 a large page.
    ram.write(littleEndianBytes(pageDirectoryPointers | 0b11), at: pageMapLevel4)
    ram.write(littleEndianBytes(pageDirectory | 0b11), at: pageDirectoryPointers)
    ram.write(littleEndianBytes(UInt64(0b1000_0011)), at: pageDirectory)
    ram.write(GuestProgram.code, at: code)
  }
}

/// The eight bytes of `value` as x86 has them in memory.
func littleEndianBytes(_ value: UInt64) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}
