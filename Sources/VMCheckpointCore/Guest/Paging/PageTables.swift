/// How a processor translates a virtual address by page tables in guest memory.
package struct PageTables {
  package enum Architecture: Hashable, Sendable {
    case x86, arm64
  }

  package let architecture: Architecture
  /// 3 to 5 tables of 512 entries.
  package let levelCount: Int

  package init(_ architecture: Architecture, levelCount: Int) {
    self.architecture = architecture
    self.levelCount = levelCount
  }

  /// How many low bits of an address tables translate; those above repeat the highest of them.
  var addressBitCount: Int {
    // arm64 has 52 bits with five levels, of which the first has 16 entries.
    architecture == .arm64 && levelCount == 5 ? 52 : 12 + 9 * levelCount
  }

  /// How many entries the top table has.
  var topEntryCount: Int { 1 << (addressBitCount - 12 - 9 * (levelCount - 1)) }

  /// Bits 12…51: where a table or page is.
  private static let x86AddressMask: UInt64 = 0x000f_ffff_ffff_f000
  /// Bits 12…47.
  private static let armAddressMask: UInt64 = 0x0000_ffff_ffff_f000

  /// What an entry is.
  enum Entry {
    case none
    case table(UInt64)
    /// A page or block and its guest-physical address.
    case leaf(UInt64)
  }

  /// What `entry` of a table at `level` is, 0 being the last.
  @inline(__always)
  func entry(_ entry: UInt64, level: Int) -> Entry {
    guard entry & 1 != 0 else { return .none }
    let blockMask = (UInt64(1) << UInt64(12 + 9 * level)) - 1
    switch architecture {
    case .x86:
      let gpa = entry & Self.x86AddressMask
      guard level > 0 else { return .leaf(gpa) }
      guard entry & 0x80 != 0 else { return .table(gpa) }
      return level <= 2 ? .leaf(gpa & ~blockMask) : .none
    case .arm64:
      let gpa = entry & Self.armAddressMask
      guard level > 0 else { return entry & 2 != 0 ? .leaf(gpa) : .none }
      guard entry & 2 == 0 else { return .table(gpa) }
      return level <= 2 ? .leaf(gpa & ~blockMask) : .none
    }
  }

  /// The guest-physical address of `va` by the tables at `root`; `nil` where it is not mapped.
  ///
  /// Reads at most ``levelCount`` entries.
  package func translate(_ va: UInt64, root: UInt64, in ram: some GuestRAM) throws -> UInt64? {
    // arm64's top table of 16 entries shares its page with others.
    var table = root & ~63
    for level in stride(from: levelCount - 1, through: 0, by: -1) {
      let mask = UInt64(level == levelCount - 1 ? topEntryCount - 1 : 511)
      let index = va >> UInt64(12 + 9 * level) & mask
      guard let page = try ram.page(table >> UInt64(Page.shift)) else { return nil }
      let word = UInt64(
        littleEndian: page.load(
          fromByteOffset: Int(min(table & 0xfff + index * 8, UInt64(Page.byteCount - 8))),
          as: UInt64.self
        )
      )
      switch entry(word, level: level) {
      case .none: return nil
      case .table(let next): table = next
      case .leaf(let gpa):
        return gpa | va & ((UInt64(1) << UInt64(12 + 9 * level)) - 1)
      }
    }
    return nil
  }
}
