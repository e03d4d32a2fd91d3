/// A QEMU x86 machine type, as far as it decides where RAM lies.
///
/// Sources: QEMU `hw/i386/pc_q35.c` and `hw/i386/pc_piix.c`: RAM from a given size on is split
/// below 4 GiB, and what does not fit below continues at 4 GiB.
public enum QEMUMachine: String, Sendable, CaseIterable, Codable {
  /// `-machine q35`: RAM of 0xB0000000 bytes and more keeps 2 GiB below 4 GiB.
  case q35
  /// `-machine pc` (i440fx): RAM of 0xE0000000 bytes and more keeps 3 GiB below 4 GiB.
  case pc

  /// The RAM layout of a guest with `byteCount` bytes of RAM, for a flat RAM file of that size.
  ///
  /// - Throws: ``VMCheckpointError`` when `byteCount` is 0 or no multiple of 4096.
  public func layout(ramByteCount byteCount: UInt64) throws(VMCheckpointError) -> RAMLayout {
    let fourGiB: UInt64 = 1 << 32
    let (splitsFrom, lowByteCount): (UInt64, UInt64) =
      switch self {
      case .q35: (0xB000_0000, 0x8000_0000)
      case .pc: (0xE000_0000, 0xC000_0000)
      }
    guard byteCount >= splitsFrom else {
      return try RAMLayout(contiguousByteCount: byteCount)
    }
    return try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: lowByteCount, fileOffset: 0, name: "ram-below-4g"),
      MemoryRegion(
        gpa: fourGiB,
        byteCount: byteCount - lowByteCount,
        fileOffset: lowByteCount,
        name: "ram-above-4g"
      ),
    ])
  }
}
