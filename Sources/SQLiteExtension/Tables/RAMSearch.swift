import CSQLiteExtension
import Glibc
import VMCheckpointCore

/// Finds a pattern in a snapshot's RAM, wherever pages and chunks end.
///
/// Stored bytes go through a window, with the zeros between them as far as a match can reach into
/// these. Since a pattern is not all zeros, every match has a stored byte.
final class RAMSearch {
  static let maximumPatternByteCount = 64 << 10
  static let maximumAlignment = 1 << 30

  /// What is shown on either side of a match.
  static let contextByteCount = 64
  /// How much of a long match is shown.
  private static let shownMatchByteCount = 128

  struct Hit {
    var gpa: UInt64
    /// In the window.
    fileprivate(set) var offset: Int
  }

  private let stream: RAMStream
  private let pattern: [UInt8]
  private let alignment: UInt64

  private let window: UnsafeMutableRawBufferPointer
  /// The address of the window's first byte.
  private var base: UInt64 = 0
  private var count = 0
  /// Where in the window the next match may begin.
  private var position = 0
  /// Whether nothing follows the window that a match could reach.
  private var isRunComplete = true
  private var pending: RAMStream.Piece?
  private var isStreamAtEnd = false

  init(_ stream: RAMStream, pattern: [UInt8], alignment: UInt64) {
    self.stream = stream
    self.pattern = pattern
    self.alignment = alignment
    window = .allocate(
      byteCount: ChunkFormat.byteCapacity + 4 * (pattern.count + 2 * Self.contextByteCount),
      alignment: Page.byteCount
    )
  }

  deinit { window.deallocate() }

  /// The next match in ascending order of address.
  func next() throws -> Hit? {
    while true {
      // A match is reported once its context has been read too.
      let end = count - (isRunComplete ? 0 : Self.contextByteCount)
      while position + pattern.count <= end {
        guard let offset = find(from: position, to: end) else {
          position = end - pattern.count + 1
          break
        }
        position = offset + 1
        let gpa = base + UInt64(offset)
        if gpa & (alignment - 1) == 0 { return Hit(gpa: gpa, offset: offset) }
      }
      guard try refill() else { return nil }
    }
  }

  /// The match and what surrounds it, with a dot for whatever is not printable ASCII.
  func context(of hit: Hit) -> String {
    let start = max(0, hit.offset - Self.contextByteCount)
    let shown = min(pattern.count, Self.shownMatchByteCount)
    let end = min(count, hit.offset + shown + Self.contextByteCount)
    return String(decoding: window[start..<end].map(HexDump.printable), as: UTF8.self)
  }

  private func find(from start: Int, to end: Int) -> Int? {
    pattern.withUnsafeBytes { pattern in
      vmx_find(window.baseAddress! + start, end - start, pattern.baseAddress!, pattern.count)
        .map { $0 - UnsafeRawPointer(window.baseAddress!) }
    }
  }

  /// Moves the window on.
  private func refill() throws -> Bool {
    if pending == nil, !isStreamAtEnd {
      pending = try stream.next()
      isStreamAtEnd = pending == nil
    }
    let reach = pattern.count - 1 + Self.contextByteCount
    if isRunComplete {
      guard let piece = pending else { return false }
      let block = stream.block(holding: piece.gpa)
      let lead = Int(min(UInt64(reach), piece.gpa - block.lowerBound))
      base = piece.gpa - UInt64(lead)
      (count, position, isRunComplete) = (0, 0, false)
      appendZeros(lead)
      append(piece)
      return true
    }
    discardPast()
    let end = base + UInt64(count)
    let block = stream.block(holding: end - 1)
    if let piece = pending, piece.gpa < block.upperBound,
      piece.gpa - end <= UInt64(reach + Self.contextByteCount)
    {
      appendZeros(Int(piece.gpa - end))
      append(piece)
    } else {
      appendZeros(Int(min(UInt64(reach), block.upperBound - end)))
      isRunComplete = true
    }
    return true
  }

  /// Drops what neither a match nor its context needs.
  private func discardPast() {
    let past = position - Self.contextByteCount
    guard past > 0 else { return }
    memmove(window.baseAddress!, window.baseAddress! + past, count - past)
    base += UInt64(past)
    count -= past
    position -= past
  }

  private func append(_ piece: RAMStream.Piece) {
    UnsafeMutableRawBufferPointer(rebasing: window[count...]).copyMemory(from: piece.bytes)
    count += piece.bytes.count
    pending = nil
  }

  private func appendZeros(_ zeroCount: Int) {
    _ = window[count..<(count + zeroCount)].initializeMemory(as: UInt8.self, repeating: 0)
    count += zeroCount
  }
}
