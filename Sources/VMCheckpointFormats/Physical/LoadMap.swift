import VMCheckpoint

/// Where the RAM of a dump is: the guest's memory regions, and for each of their pages where in the file
/// it comes from.
///
/// Loads may overlap in guest-physical addresses: a dump with paging has a load for each virtual address, and
/// `/proc/vmcore` has the kernel's text twice. Physical addresses alone count, and of several copies of a byte
/// the one whose load begins first. What no load has in the file is zero.
///
/// A load may begin or end inside a page, as `/proc/vmcore`'s do. The rest of that page is zero, unless
/// another load has it. Such a page is put together from its fragments in a file of its own.
struct LoadMap {
  /// Part of a page that is put together.
  struct Fragment: Hashable {
    /// Counted over all pages that are put together.
    var pageIndex: Int
    var pageOffset: Int
    var fileOffset: UInt64
    var byteCount: Int
  }

  /// The index of the dump itself in ``placement``, and of the file with the pages that are put together,
  /// behind which a hole is, for all that is zero.
  static let dumpFileIndex = 0
  static let assembledFileIndex = 1

  /// 64 MiB.
  static let maximumAssembledPageCount = 16 << 10

  let layout: RAMLayout
  let placement: RAMPlacement
  let fragments: [Fragment]
  let assembledPageCount: Int
  /// Pages of which the file has nothing: unknown, since who filters a dump makes such loads.
  let absent: AbsentPages
  /// Bytes of loads that are not in the file, but on pages that are there in part.
  let missingByteCount: UInt64
  /// Bytes of pages that no load has.
  let paddingByteCount: UInt64

  /// The size of the file with the pages that are put together, its hole included.
  var assembledFileByteCount: UInt64 { placement.endFileOffset(ofFile: Self.assembledFileIndex) }

  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(_ loads: [MemoryLoad], isX86: Bool) throws(VMCheckpointError) {
    let memory = Self.union(loads.map { $0.gpa..<$0.endGPA })
    var segments = Self.segments(loads)
    let inFileByteCount = segments.reduce(0) { $0 + $1.byteCount }
    let pageRanges = Self.regions(memory, isX86: isX86)
    absent = Self.absent(pageRanges, segments)
    layout = try LoadRegions.layout(pageRanges, isX86: isX86)
    var builder = PieceBuilder()
    var next = 0
    for range in pageRanges {
      builder.begin(range.lowerBound)
      while next < segments.count, segments[next].gpa < range.upperBound {
        // One may go on in the next region.
        if let part = segments[next].split(at: range.upperBound) {
          builder.add(part)
          break
        }
        builder.add(segments[next])
        next += 1
      }
      builder.end(range.upperBound)
    }
    guard builder.assembledPageCount <= Self.maximumAssembledPageCount else {
      throw .invalidData(
        "has \(builder.assembledPageCount) pages that loads hold a part of, which are too many"
      )
    }
    placement = RAMPlacement(pieces: builder.finished)
    fragments = builder.fragments
    assembledPageCount = builder.assembledPageCount
    let memoryByteCount = memory.reduce(0) { $0 + UInt64($1.upperBound - $1.lowerBound) }
    missingByteCount =
      memoryByteCount - inFileByteCount - Self.byteCount(of: absent, in: memory)
    paddingByteCount = layout.byteCount - memoryByteCount
  }

  /// What a user is told when pages are not whole in the dump.
  ///
  /// - Parameter noun: What the dump's parts are called, as "loads".
  func paddingWarning(noun: String) -> String? {
    paddingByteCount == 0 ? nil : Self.paddingWarning(noun: noun, byteCount: paddingByteCount)
  }

  /// The same for a number of bytes.
  static func paddingWarning(noun: String, byteCount: UInt64) -> String {
    "\(noun) begin or end inside pages: the \(byteCount) bytes that those pages lack are stored as zeros"
  }

  /// A run of bytes of the guest's memory that the file has in one run as well.
  fileprivate struct Segment {
    var gpa: UInt64
    var fileOffset: UInt64
    var byteCount: UInt64

    var endGPA: UInt64 { gpa + byteCount }

    /// Cuts off what is below `border`; `nil` when nothing is above.
    mutating func split(at border: UInt64) -> Segment? {
      guard endGPA > border else { return nil }
      var lower = self
      lower.byteCount = border - gpa
      gpa += lower.byteCount
      fileOffset += lower.byteCount
      byteCount -= lower.byteCount
      return lower
    }
  }

  /// What the file has of the guest's memory, each byte once, in ascending order; neighbours are joined.
  ///
  /// - Complexity: O(*n* log *n*).
  private static func segments(_ loads: [MemoryLoad]) -> [Segment] {
    // The sort is stable: of loads that begin together the first one in the table counts.
    let inFile = loads.filter { $0.fileByteCount > 0 }.sorted { $0.gpa < $1.gpa }
    var result: [Segment] = []
    var coveredEnd: UInt64 = 0
    for load in inFile {
      let end = load.gpa + load.fileByteCount
      let start = max(load.gpa, coveredEnd)
      guard start < end else { continue }
      let fileOffset = load.fileOffset + (start - load.gpa)
      coveredEnd = end
      if let last = result.last, last.endGPA == start,
        last.fileOffset + last.byteCount == fileOffset
      {
        result[result.count - 1].byteCount += end - start
      } else {
        result.append(Segment(gpa: start, fileOffset: fileOffset, byteCount: end - start))
      }
    }
    return result
  }

  /// The pages of these ranges that no segment touches.
  ///
  /// - Complexity: O(*n*) in the numbers of both.
  private static func absent(
    _ pageRanges: [Range<UInt64>],
    _ segments: [Segment]
  ) -> AbsentPages {
    let shift = UInt64(Page.shift)
    var absent = AbsentPages()
    var segments = segments[...]
    for range in pageRanges {
      var next = range.lowerBound >> shift
      let end = range.upperBound >> shift
      while let segment = segments.first, segment.gpa >> shift < end {
        if segment.gpa >> shift > next { absent.append(next..<(segment.gpa >> shift)) }
        next = max(next, (segment.endGPA - 1) >> shift + 1)
        // One may go on in the next region.
        guard next <= end else { break }
        segments.removeFirst()
      }
      if next < end { absent.append(next..<end) }
    }
    return absent
  }

  /// How many bytes of `memory` are on absent pages.
  private static func byteCount(of absent: AbsentPages, in memory: [Range<UInt64>]) -> UInt64 {
    let shift = UInt64(Page.shift)
    var count: UInt64 = 0
    var runs = absent.runs[...]
    for range in memory {
      while let run = runs.first, run.lowerBound << shift < range.upperBound {
        let bytes = (run.lowerBound << shift..<run.upperBound << shift).clamped(to: range)
        count += bytes.upperBound - bytes.lowerBound
        guard run.upperBound << shift <= range.upperBound else { break }
        runs.removeFirst()
      }
    }
    return count
  }

  /// The ranges without overlap, in ascending order; those that touch are joined.
  private static func union(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, range.lowerBound <= last.upperBound {
        result[result.count - 1] =
          last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }

  /// Whole pages, in ranges of addresses.
  private static func regions(
    _ memory: [Range<UInt64>],
    isX86: Bool
  ) -> [Range<UInt64>] {
    let page = UInt64(Page.byteCount)
    let whole = union(
      memory.map { ($0.lowerBound & ~(page - 1))..<(($0.upperBound + page - 1) & ~(page - 1)) }
    )
    return isX86 ? LoadRegions.splitAt4GiB(whole) : whole
  }
}

/// Makes the pieces of one region after another.
private struct PieceBuilder {
  private typealias Map = LoadMap

  private var pieces: [RAMPlacement.Piece] = []
  private(set) var fragments: [LoadMap.Fragment] = []
  private(set) var assembledPageCount = 0
  /// The first page that has no piece.
  private var nextPFN: UInt64 = 0
  /// The last page that is put together.
  private var assembledPFN: UInt64?

  mutating func begin(_ gpa: UInt64) { nextPFN = Page.count(inByteCount: gpa) }

  mutating func add(_ segment: LoadMap.Segment) {
    let page = UInt64(Page.byteCount)
    var segment = segment
    // Up to the first whole page.
    let headByteCount = min(segment.byteCount, (page - segment.gpa % page) % page)
    if headByteCount > 0 || segment.byteCount < page {
      let byteCount = headByteCount > 0 ? headByteCount : segment.byteCount
      assemble(segment, byteCount)
      segment.gpa += byteCount
      segment.fileOffset += byteCount
      segment.byteCount -= byteCount
    }
    let pageCount = Page.count(inByteCount: segment.byteCount)
    if pageCount > 0 {
      let pfn = Page.count(inByteCount: segment.gpa)
      fillZeros(upTo: pfn)
      pieces.append(
        .init(firstPFN: pfn, pageCount: pageCount, fileOffset: segment.fileOffset)
      )
      nextPFN = pfn + pageCount
      let byteCount = pageCount << UInt64(Page.shift)
      segment.gpa += byteCount
      segment.fileOffset += byteCount
      segment.byteCount -= byteCount
    }
    if segment.byteCount > 0 { assemble(segment, segment.byteCount) }
  }

  mutating func end(_ gpa: UInt64) { fillZeros(upTo: Page.count(inByteCount: gpa)) }

  /// Takes the first bytes of `segment`, which lie in one page.
  private mutating func assemble(_ segment: LoadMap.Segment, _ byteCount: UInt64) {
    let pfn = Page.count(inByteCount: segment.gpa)
    if assembledPFN != pfn {
      fillZeros(upTo: pfn)
      pieces.append(
        .init(
          firstPFN: pfn,
          pageCount: 1,
          fileIndex: LoadMap.assembledFileIndex,
          fileOffset: UInt64(assembledPageCount) << UInt64(Page.shift)
        )
      )
      assembledPFN = pfn
      nextPFN = pfn + 1
      assembledPageCount += 1
    }
    fragments.append(
      .init(
        pageIndex: assembledPageCount - 1,
        pageOffset: Int(segment.gpa % UInt64(Page.byteCount)),
        fileOffset: segment.fileOffset,
        byteCount: Int(byteCount)
      )
    )
  }

  private mutating func fillZeros(upTo pfn: UInt64) {
    guard nextPFN < pfn else { return }
    // Where the hole begins is known at the end.
    pieces.append(
      .init(
        firstPFN: nextPFN,
        pageCount: pfn - nextPFN,
        fileIndex: LoadMap.assembledFileIndex,
        fileOffset: .max
      )
    )
    nextPFN = pfn
  }

  /// All pieces; those of zeros share the hole behind the pages that are put together.
  var finished: [RAMPlacement.Piece] {
    let hole = UInt64(assembledPageCount) << UInt64(Page.shift)
    return pieces.map { piece in
      var piece = piece
      if piece.fileOffset == .max { piece.fileOffset = hole }
      return piece
    }
  }
}
