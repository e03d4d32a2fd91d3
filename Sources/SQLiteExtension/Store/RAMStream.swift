import CSQLiteExtension
import VMCheckpointCore

/// A snapshot's stored bytes in ascending order of address, in pieces of up to 64 KiB. What lies
/// between two pieces is zero, absent, or no RAM.
final class RAMStream {
  /// Consecutive stored pages of one chunk.
  struct Piece {
    var gpa: UInt64
    /// Valid until the next piece is read.
    var bytes: UnsafeRawBufferPointer
  }

  /// Ranges of addresses, ascending, that are RAM whose content is known, without a hole.
  let blocks: [Range<UInt64>]

  private let stream: ChunkStream<HostDatabase>

  init(
    _ connection: Connection,
    _ snapshot: StoredSnapshot,
    pfns: ClosedRange<UInt64>
  ) throws {
    let layout = try connection.reader.layout(of: snapshot)
    var blocks: [Range<UInt64>] = []
    for region in layout.regions {
      if let last = blocks.last, last.upperBound == region.gpa {
        blocks[blocks.count - 1] = last.lowerBound..<region.endGPA
      } else {
        blocks.append(region.gpa..<region.endGPA)
      }
    }
    let absent = try connection.reader.absentPages(of: snapshot, in: layout)
    self.blocks = Self.removing(absent, from: blocks)
    let scan = try connection.extents(of: snapshot, layout, range: pfns)
    stream = try ChunkStream(connection.reader) {
      try scan.next().map { ($0, try scan.chunk(of: $0)) }
    }
  }

  private static func removing(
    _ absent: AbsentPages,
    from blocks: [Range<UInt64>]
  ) -> [Range<UInt64>] {
    let shift = UInt64(Page.shift)
    var runs = absent.runs[...]
    var result: [Range<UInt64>] = []
    for block in blocks {
      var gpa = block.lowerBound
      // A run of absent pages is all RAM, and so in one block.
      while let run = runs.first, run.lowerBound << shift < block.upperBound {
        if gpa < run.lowerBound << shift { result.append(gpa..<(run.lowerBound << shift)) }
        gpa = run.upperBound << shift
        runs.removeFirst()
      }
      if gpa < block.upperBound { result.append(gpa..<block.upperBound) }
    }
    return result
  }

  func next() throws -> Piece? {
    guard let (extent, pages) = try stream.next() else { return nil }
    return Piece(gpa: extent.firstPFN << UInt64(Page.shift), bytes: pages)
  }

  /// The block that holds `gpa`, which is known RAM.
  func block(holding gpa: UInt64) -> Range<UInt64> {
    var (low, high) = (0, blocks.count)
    while low < high {
      let middle = (low + high) / 2
      if blocks[middle].upperBound <= gpa { low = middle + 1 } else { high = middle }
    }
    return low < blocks.count && blocks[low].contains(gpa) ? blocks[low] : gpa..<gpa
  }
}

extension ClosedRange<Int64> {
  /// The PFNs of the addresses in this range, and of `before` and `after` bytes around it; `nil`
  /// when no address can be RAM.
  func pfns(before: UInt64, after: UInt64) -> ClosedRange<UInt64>? {
    let valid: ClosedRange<Int64> = 0...Int64(RAMLayout.gpaLimit - 1)
    guard overlaps(valid) else { return nil }
    let clamped = clamped(to: valid)
    let first = UInt64(clamped.lowerBound)
    let last = UInt64(clamped.upperBound) + after
    return ((first - Swift.min(first, before)) >> UInt64(Page.shift))...(last >> UInt64(Page.shift))
  }
}
