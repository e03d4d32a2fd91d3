import CLZ4

/// The one shape of LZ4 frames that chunks have: at most 64 KiB of content in one block, with the
/// content's size and checksum (drawn in the DocC article "Format"). The bytes are those that
/// liblz4's frame functions make, which spend more on the checksum than on the rest.
///
/// Holds no state, so that threads can share it; LZ4 keeps its working memory on the stack.
enum LZ4ChunkFrame {
  static let maximumContentByteCount = 64 << 10

  private static let headerByteCount = 15
  private static let blockSizeByteCount = 4
  /// The end mark and the content checksum.
  private static let trailerByteCount = 8
  private static let notCompressed: UInt32 = 1 << 31

  /// What a frame takes beside its block.
  private static let overhead = headerByteCount + blockSizeByteCount + trailerByteCount

  /// The most bytes that a frame for `byteCount` bytes can take.
  static func bound(byteCount: Int) -> Int { byteCount + overhead }

  /// Compresses `source` into one frame.
  ///
  /// - Precondition: `source` is neither empty nor longer than ``maximumContentByteCount``, and
  ///   `destination` has ``bound(byteCount:)`` bytes.
  /// - Returns: The frame's size in bytes.
  static func compress(
    _ source: UnsafeRawBufferPointer,
    into destination: UnsafeMutableRawBufferPointer,
    with compressor: ChunkCompressor
  ) -> Int {
    precondition(
      (1...maximumContentByteCount).contains(source.count)
        && destination.count >= bound(byteCount: source.count)
    )
    let frame = destination.baseAddress!
    writeHeader(contentByteCount: source.count, to: frame)
    let block = frame + headerByteCount + blockSizeByteCount
    // A block that would not get shorter is kept as it is.
    var blockByteCount = compressor.compress(source, into: block)
    var blockSize = UInt32(truncatingIfNeeded: blockByteCount)
    if blockByteCount == 0 {
      blockByteCount = source.count
      blockSize = UInt32(source.count) | notCompressed
      block.copyMemory(from: source.baseAddress!, byteCount: source.count)
    }
    store(blockSize, to: frame + headerByteCount)
    store(0, to: block + blockByteCount)
    store(XXHash32.hash(source), to: block + blockByteCount + 4)
    return overhead + blockByteCount
  }

  /// Decompresses a frame of this very shape that is all of `source` and fills all of
  /// `destination`.
  ///
  /// - Returns: Whether it is one, with the right checksums. `destination` holds anything if not.
  static func decompress(
    _ source: UnsafeRawBufferPointer,
    into destination: UnsafeMutableRawBufferPointer
  ) -> Bool {
    guard source.count > overhead, let frame = source.baseAddress,
      (1...maximumContentByteCount).contains(destination.count),
      hasHeader(frame, contentByteCount: destination.count)
    else { return false }
    let blockSize = load(frame + headerByteCount)
    let blockByteCount = Int(blockSize & ~notCompressed)
    guard blockByteCount == source.count - overhead else { return false }
    let block = frame + headerByteCount + blockSizeByteCount
    if blockSize & notCompressed != 0 {
      guard blockByteCount == destination.count else { return false }
      destination.baseAddress!.copyMemory(from: block, byteCount: blockByteCount)
    } else {
      let count = LZ4_decompress_safe(
        block.assumingMemoryBound(to: CChar.self),
        destination.baseAddress!.assumingMemoryBound(to: CChar.self),
        Int32(blockByteCount),
        Int32(destination.count)
      )
      guard Int(count) == destination.count else { return false }
    }
    return load(block + blockByteCount) == 0
      && load(block + blockByteCount + 4) == XXHash32.hash(UnsafeRawBufferPointer(destination))
  }

  private static func writeHeader(contentByteCount: Int, to frame: UnsafeMutableRawPointer) {
    store(0x184D_2204, to: frame)
    // Version 1, independent blocks, content size and checksum; blocks of at most 64 KiB.
    frame.storeBytes(of: 0x6C, toByteOffset: 4, as: UInt8.self)
    frame.storeBytes(of: 0x40, toByteOffset: 5, as: UInt8.self)
    frame.storeBytes(
      of: UInt64(contentByteCount).littleEndian,
      toByteOffset: 6,
      as: UInt64.self
    )
    let checksum = XXHash32.hash(UnsafeRawBufferPointer(start: frame + 4, count: 10))
    frame.storeBytes(
      of: UInt8(truncatingIfNeeded: checksum >> 8),
      toByteOffset: 14,
      as: UInt8.self
    )
  }

  private static func hasHeader(_ frame: UnsafeRawPointer, contentByteCount: Int) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: headerByteCount, alignment: 8) { expected in
      writeHeader(contentByteCount: contentByteCount, to: expected.baseAddress!)
      return (0..<headerByteCount).allSatisfy {
        expected[$0] == frame.load(fromByteOffset: $0, as: UInt8.self)
      }
    }
  }

  private static func store(_ value: UInt32, to pointer: UnsafeMutableRawPointer) {
    pointer.storeBytes(of: value.littleEndian, as: UInt32.self)
  }

  private static func load(_ pointer: UnsafeRawPointer) -> UInt32 {
    UInt32(littleEndian: pointer.loadUnaligned(as: UInt32.self))
  }
}
