import Algorithms

/// A contiguous range of guest-physical addresses that is RAM, and its place in a flat RAM file.
public struct MemoryRegion: Hashable, Sendable, Codable {
  /// The guest-physical address of the first byte; a multiple of 4096.
  public var gpa: UInt64

  /// A multiple of 4096 and not 0.
  public var byteCount: UInt64

  /// Where the region's first byte is in a flat RAM file; a multiple of 4096.
  public var fileOffset: UInt64

  /// What the VMM calls the region, such as `low` or `ram.above-4g`.
  public var name: String

  /// Makes one with these values.
  public init(gpa: UInt64, byteCount: UInt64, fileOffset: UInt64, name: String) {
    self.gpa = gpa
    self.byteCount = byteCount
    self.fileOffset = fileOffset
    self.name = name
  }

  /// The first PFN.
  public var firstPFN: PFN { PFN(gpa: gpa) }

  /// The number of pages.
  public var pageCount: UInt64 { Page.count(inByteCount: byteCount) }

  /// The first byte past the region. A region made by ``RAMLayout`` does not overflow.
  package var endGPA: UInt64 { gpa + byteCount }

  /// The first byte past the region's part of the flat file.
  package var endFileOffset: UInt64 { fileOffset + byteCount }
}

/// The guest's memory regions, checked: at least one, aligned to pages, sorted by GPA, no two
/// overlapping in guest-physical addresses or in the flat RAM file.
public struct RAMLayout: Hashable, Sendable {
  /// In ascending order of GPA.
  public let regions: [MemoryRegion]

  /// The first GPA that no region may reach: x86 addresses physical memory with at most 52 bits
  /// (AMD APM volume 2, 5.1), and so every GPA and size here fits SQLite's signed integers.
  public static let gpaLimit: UInt64 = 1 << 52

  /// The largest number of regions: a VMM has a handful, and plugged DIMMs at most 256.
  public static let maximumRegionCount = 1024

  /// The longest region name in UTF-8 bytes.
  public static let maximumNameByteCount = 255

  /// Checks and sorts `regions`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` that names the region at fault.
  public init(regions: [MemoryRegion]) throws(VMCheckpointError) {
    guard !regions.isEmpty else {
      throw .invalidData("a guest needs at least one memory region")
    }
    guard regions.count <= Self.maximumRegionCount else {
      throw .invalidData(
        "\(regions.count) memory regions are more than the \(Self.maximumRegionCount) allowed"
      )
    }
    for region in regions {
      try Self.check(region)
    }
    let byGPA = regions.sorted { $0.gpa < $1.gpa }
    for (lower, upper) in zip(byGPA, byGPA.dropFirst()) where lower.endGPA > upper.gpa {
      throw .invalidData(
        """
        memory regions overlap: \(Self.describe(lower)) and \(Self.describe(upper)) both hold \
        GPA \(hexString(upper.gpa))
        """
      )
    }
    let byOffset = regions.sorted { $0.fileOffset < $1.fileOffset }
    for (lower, upper) in zip(byOffset, byOffset.dropFirst())
    where lower.endFileOffset > upper.fileOffset {
      throw .invalidData(
        """
        memory regions overlap in the RAM file: \(Self.describe(lower)) and \
        \(Self.describe(upper)) both hold file offset \(hexString(upper.fileOffset))
        """
      )
    }
    self.regions = byGPA
  }

  /// One region from GPA 0: RAM without a hole.
  ///
  /// - Throws: ``VMCheckpointError`` when `byteCount` is 0 or no multiple of 4096.
  public init(contiguousByteCount byteCount: UInt64) throws(VMCheckpointError) {
    try self.init(regions: [
      MemoryRegion(gpa: 0, byteCount: byteCount, fileOffset: 0, name: "ram")
    ])
  }

  /// The sum of the regions' sizes: the guest's RAM.
  public var byteCount: UInt64 { regions.reduce(0) { $0 + $1.byteCount } }

  /// The size of a flat RAM file that has room for every region.
  public var fileByteCount: UInt64 { regions.reduce(0) { Swift.max($0, $1.endFileOffset) } }

  /// The first PFN beyond all regions.
  package var endPFN: UInt64 {
    regions.reduce(0) { Swift.max($0, $1.endGPA) } >> UInt64(Page.shift)
  }

  /// Whether `pfn` is RAM.
  ///
  /// - Complexity: O(log *n*) in the number of regions.
  public func contains(_ pfn: PFN) -> Bool { region(holding: pfn) != nil }

  /// The region that holds `pfn`, if it is RAM.
  ///
  /// - Complexity: O(log *n*) in the number of regions.
  public func region(holding pfn: PFN) -> MemoryRegion? {
    let following = regions.partitioningIndex { $0.firstPFN > pfn }
    guard following > 0 else { return nil }
    let candidate = regions[following - 1]
    let pageIndex = pfn.rawValue - candidate.firstPFN.rawValue
    return pageIndex < candidate.pageCount ? candidate : nil
  }

  /// The offset of the page's first byte in a flat RAM file, if it is RAM.
  ///
  /// - Complexity: O(log *n*) in the number of regions.
  public func fileOffset(of pfn: PFN) -> UInt64? {
    region(holding: pfn).map { $0.fileOffset + (pfn.gpa - $0.gpa) }
  }

  private static func describe(_ region: MemoryRegion) -> String {
    "gpa=\(hexString(region.gpa)),size=\(hexString(region.byteCount))"
  }

  private static func check(_ region: MemoryRegion) throws(VMCheckpointError) {
    let name = describe(region)
    guard region.byteCount > 0 else {
      throw .invalidData("memory region \(name) is empty")
    }
    for (label, value) in [
      ("gpa", region.gpa), ("size", region.byteCount), ("offset", region.fileOffset),
    ] where value % UInt64(Page.byteCount) != 0 {
      throw .invalidData(
        "memory region \(name): \(label) \(hexString(value)) is not a multiple of 4096"
      )
    }
    let (endGPA, gpaOverflows) = region.gpa.addingReportingOverflow(region.byteCount)
    guard !gpaOverflows, endGPA <= gpaLimit else {
      throw .invalidData("memory region \(name) ends beyond 52-bit physical addresses")
    }
    let (endOffset, offsetOverflows) = region.fileOffset.addingReportingOverflow(region.byteCount)
    guard !offsetOverflows, endOffset <= gpaLimit else {
      throw .invalidData(
        "memory region \(name): file offset \(hexString(region.fileOffset)) is too large"
      )
    }
    guard region.name.utf8.count <= maximumNameByteCount,
      region.name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f })
    else {
      throw .invalidData(
        "memory region \(name): a name has up to \(maximumNameByteCount) bytes, none of them "
          + "control characters"
      )
    }
  }
}

extension RAMLayout {
  /// Whether all pages from `first` to `last` are RAM, in one region or in several that touch.
  package func isRAM(from first: PFN, through last: PFN) -> Bool {
    var next = first
    while let region = region(holding: next) {
      let end = region.endGPA >> UInt64(Page.shift)
      if end > last.rawValue { return true }
      next = PFN(unchecked: end)
    }
    return false
  }
}
