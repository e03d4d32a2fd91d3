import VMCheckpoint

/// The memory regions of a guest that a core was made of: their names, and their places in flat RAM.
///
/// A core does not name its loads. On x86 what lies in the last 16 MiB below 4 GiB is firmware, which chipsets
/// decode there: QEMU's pc and q35 put 256 KiB or more, VirtualBox 64 KiB. RAM is never there.
enum ELFRegions {
  static let fourGiB: UInt64 = 1 << 32
  static let firmwareStart: UInt64 = fourGiB - 16 << 20

  /// The layout of these ranges of addresses, which are whole pages, ascending and apart.
  ///
  /// Flat RAM has firmware last, so that the rest is as a VMM's file of RAM has it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  static func layout(
    _ ranges: [Range<UInt64>],
    machine: ELFHeader.Machine
  ) throws(VMCheckpointError) -> RAMLayout {
    func isFirmware(_ range: Range<UInt64>) -> Bool {
      machine.isX86 && range.lowerBound >= firmwareStart && range.upperBound <= fourGiB
    }
    let hasHighRAM = machine.isX86 && ranges.contains { $0.lowerBound == fourGiB }
    var regions: [MemoryRegion] = []
    var offset: UInt64 = 0
    let ram = ranges.filter { !isFirmware($0) }
    for range in ram + ranges.filter(isFirmware) {
      let byteCount = range.upperBound - range.lowerBound
      regions.append(
        MemoryRegion(
          gpa: range.lowerBound,
          byteCount: byteCount,
          fileOffset: offset,
          name: isFirmware(range)
            ? "rom-\(hexString(range.lowerBound))"
            : name(range.lowerBound, hasHighRAM: hasHighRAM)
        )
      )
      offset += byteCount
    }
    do throws(VMCheckpointError) {
      return try RAMLayout(regions: regions)
    } catch {
      throw .invalidData("is damaged: \(error.message)")
    }
  }

  private static func name(_ gpa: UInt64, hasHighRAM: Bool) -> String {
    switch gpa {
    case 0: hasHighRAM ? "ram-below-4g" : "ram"
    case fourGiB where hasHighRAM: "ram-above-4g"
    default: "load-\(hexString(gpa))"
    }
  }
}
