import VMCheckpoint

/// A memory region, with the names of the table `memory_region`.
struct RegionOutput: Codable, Hashable, Sendable {
  var gpa: UInt64
  var bytes: UInt64
  var fileOffset: UInt64
  var name: String

  enum CodingKeys: String, CodingKey {
    case gpa, bytes
    case fileOffset = "file_offset"
    case name
  }

  init(_ region: MemoryRegion) {
    gpa = region.gpa
    bytes = region.byteCount
    fileOffset = region.fileOffset
    name = region.name
  }
}

/// A run of pages.
struct PageRangeOutput: Codable, Hashable, Sendable {
  var firstPFN: UInt64
  var pageCount: UInt64

  enum CodingKeys: String, CodingKey {
    case firstPFN = "first_pfn"
    case pageCount = "page_count"
  }

  init(_ range: PageRange) {
    firstPFN = range.firstPFN
    pageCount = range.pageCount
  }

  /// `0x10`, or `0x10-0x1f` with its last page.
  var text: String {
    let first = HumanReadable.hex(firstPFN)
    guard pageCount > 1 else { return first }
    // Numbers from a damaged store can be of any size.
    return "\(first)-\(HumanReadable.hex(firstPFN &+ (pageCount - 1)))"
  }
}
