import VMCheckpoint

/// The memory regions of a guest that a dump was made of: their names, and their places in flat RAM.
///
/// A dump does not name its loads; on x86 their addresses show what they are. What lies in the last 16 MiB below
/// 4 GiB is firmware, which chipsets decode there: QEMU's pc and q35 put 256 KiB or more, VirtualBox 64 KiB.
/// What begins above 3 GiB, and not above 4, may be a device's memory: QEMU's video card has 16 MiB there. The
/// rest is RAM, which may be in several loads: QEMU leaves the video card's old window at 640 KiB out.
enum LoadRegions {
  static let fourGiB: UInt64 = 1 << 32
  static let firmwareStart: UInt64 = fourGiB - 16 << 20
  static let deviceStart: UInt64 = 3 << 30

  /// What a region is, in the order in which flat RAM has them: it begins as a VMM's file of RAM does.
  private enum Kind: CaseIterable {
    case ram
    /// What may be a device's memory, or RAM of a machine that nothing is known of.
    case load
    case firmware

    init(_ range: Range<UInt64>, isX86: Bool) {
      switch range.lowerBound {
      case _ where !isX86: self = .load
      case firmwareStart..<fourGiB where range.upperBound <= fourGiB: self = .firmware
      case deviceStart..<fourGiB: self = .load
      default: self = .ram
      }
    }

    var prefix: String {
      switch self {
      case .ram: "ram"
      case .load: "load"
      case .firmware: "rom"
      }
    }
  }

  /// The layout of these ranges of addresses, which are whole pages, ascending and apart.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  static func layout(
    _ ranges: [Range<UInt64>],
    isX86: Bool
  ) throws(VMCheckpointError) -> RAMLayout {
    guard ranges.count <= RAMLayout.maximumRegionCount else {
      throw .invalidData(
        "has RAM in \(ranges.count) places, and at most \(RAMLayout.maximumRegionCount) can be stored"
      )
    }
    let hasHighRAM = isX86 && ranges.contains { $0.lowerBound == fourGiB }
    var regions: [MemoryRegion] = []
    var offset: UInt64 = 0
    for kind in Kind.allCases {
      for range in ranges where Kind(range, isX86: isX86) == kind {
        let byteCount = range.upperBound - range.lowerBound
        regions.append(
          MemoryRegion(
            gpa: range.lowerBound,
            byteCount: byteCount,
            fileOffset: offset,
            name: name(range.lowerBound, kind, hasHighRAM: hasHighRAM)
          )
        )
        offset += byteCount
      }
    }
    do throws(VMCheckpointError) {
      return try RAMLayout(regions: regions)
    } catch {
      throw .invalidData("is damaged: \(error.message)")
    }
  }

  /// Adds the next range of whole pages to those before it; one that touches the last is joined to it.
  ///
  /// - Precondition: It begins at the end of the last one, or behind it.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name, when
  ///   there are more than can be stored.
  static func append(
    _ range: Range<UInt64>,
    to ranges: inout [Range<UInt64>]
  ) throws(VMCheckpointError) {
    if let last = ranges.last, last.upperBound == range.lowerBound {
      ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
      return
    }
    guard ranges.count < RAMLayout.maximumRegionCount else {
      throw .invalidData(
        "has RAM in more than \(RAMLayout.maximumRegionCount) places, and no more can be stored"
      )
    }
    ranges.append(range)
  }

  /// On x86 what begins where firmware or a device may be ends at 4 GiB: with RAM from there on, both would be
  /// one.
  static func splitAt4GiB(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    ranges.flatMap { range in
      (deviceStart..<fourGiB).contains(range.lowerBound) && range.upperBound > fourGiB
        ? [range.lowerBound..<fourGiB, fourGiB..<range.upperBound] : [range]
    }
  }

  private static func name(_ gpa: UInt64, _ kind: Kind, hasHighRAM: Bool) -> String {
    switch (kind, gpa) {
    case (.ram, 0): hasHighRAM ? "ram-below-4g" : "ram"
    case (.ram, fourGiB): "ram-above-4g"
    default: "\(kind.prefix)-\(hexString(gpa))"
    }
  }
}
