import VMCheckpoint

/// The ranges of a capture of AVML in the order in which they come: ranges of LiME, and such whose bytes are
/// compressed.
///
///     AVML's range   header; a stream in Snappy's framing format; u64 how many bytes the stream has
///
/// AVML writes blocks of up to 16 MiB and leaves out those that are zero. So what lies between two ranges may
/// be RAM of zeros or may not be RAM: the file does not say which. On x86 two places are not RAM in any machine:
/// the window of the video card and firmware below 1 MiB, and that of devices below 4 GiB.
///
/// Source: AVML `src/image.rs`, `src/bin/convert.rs`.
final class AVMLStream: RangeSource, @unchecked Sendable {
  let orderHint = "AVML writes ranges in order of their GPAs: capture it again"

  /// Where the window below 1 MiB may begin: behind the BIOS's data, which end at 640 KiB or below.
  private static let legacyStart: UInt64 = 512 << 10
  private static let legacyEnd: UInt64 = 1 << 20

  let name: String
  private let input: DumpInput
  private let frames: SnappyFrames
  private var header: RangeHeader?
  /// Where the stream of the range that is being read began.
  private var framesOffset: UInt64 = 0
  private var isAtEnd = false
  /// How much between ranges counts as zeros so far.
  private var zeroByteCount: UInt64 = 0

  /// A longer gap is not RAM of zeros, such as that between the RAM of two processors on arm64: of such
  /// addresses, a snapshot could not be restored as a file.
  private static let maximumGapByteCount: UInt64 = 1 << 40
  /// 64 TiB, of all gaps.
  private static let maximumZeroByteCount: UInt64 = 64 << 40

  /// - Throws: ``VMCheckpointError``: `unavailable` when libsnappy is missing, `outOfResources`.
  init(_ input: DumpInput, name: String) throws(VMCheckpointError) {
    self.input = input
    self.name = name
    frames = try SnappyFrames(input)
  }

  func nextRange() throws(VMCheckpointError) -> PhysicalRange? {
    // The reader asks once more when the last range has ended inside a page.
    guard !isAtEnd else { return nil }
    if let header {
      try finish(header)
      isAtEnd = try input.isAtEnd()
      if isAtEnd { return nil }
    }
    let number = (header?.range.number ?? 0) + 1
    let offset = input.offset
    let next = try RangeHeader(
      input.read(byteCount: RangeHeader.byteCount, place: "in the header of range \(number)"),
      number: number,
      offset: offset,
      allowed: [.plain, .snappy]
    )
    header = next
    framesOffset = input.offset
    frames.restart()
    return next.range
  }

  func read(into room: UnsafeMutableRawBufferPointer) throws(VMCheckpointError) {
    guard let header else { return }
    switch header.kind {
    case .plain: try input.read(into: room, place: "in \(header.range.title)")
    case .snappy: try frames.read(into: room, place: header.range.title)
    }
  }

  /// Checks what follows a range's bytes.
  private func finish(_ header: RangeHeader) throws(VMCheckpointError) {
    guard header.kind == .snappy else { return }
    guard !frames.hasRest else {
      throw .invalidData("is damaged: \(header.range.title) has more data than addresses")
    }
    let byteCount = input.offset - framesOffset
    let stated = try input.read(byteCount: 8, place: "behind \(header.range.title)")
      .littleEndian(at: 0, as: UInt64.self)
    guard stated == byteCount else {
      throw .invalidData(
        "is damaged: \(header.range.title) has \(byteCount) compressed bytes, and \(stated) by the number "
          + "behind them"
      )
    }
  }

  func zeros(between ranges: Range<UInt64>) -> [Range<UInt64>] {
    let zeros = Self.zeros(between: ranges)
    let byteCount = zeros.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) }
    guard byteCount <= Self.maximumGapByteCount,
      zeroByteCount + byteCount <= Self.maximumZeroByteCount
    else { return [] }
    zeroByteCount += byteCount
    return zeros
  }

  /// What between two ranges counts as RAM of zeros.
  static func zeros(between ranges: Range<UInt64>) -> [Range<UInt64>] {
    let page = UInt64(Page.byteCount)
    let start = (ranges.lowerBound + page - 1) & ~(page - 1)
    let end = ranges.upperBound & ~(page - 1)
    guard start < end else { return [] }
    if start >= legacyStart, start < legacyEnd {
      return end > legacyEnd ? [legacyEnd..<end] : []
    }
    if start < LoadRegions.fourGiB, end >= LoadRegions.fourGiB {
      return end > LoadRegions.fourGiB ? [LoadRegions.fourGiB..<end] : []
    }
    return [start..<end]
  }
}
