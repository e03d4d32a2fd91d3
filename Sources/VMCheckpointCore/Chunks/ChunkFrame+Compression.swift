/// Making frames. Their bytes are those that liblz4's frame functions make, which spend more on the
/// checksum than on the rest.
extension ChunkFrame {
  /// What a frame takes beside its block.
  private static let overhead = blockOffset + trailerByteCount

  /// The most bytes that a frame for `byteCount` bytes can take.
  package static func bound(byteCount: Int) -> Int { byteCount + overhead }

  /// Compresses `source` into one frame.
  ///
  /// - Precondition: `source` is neither empty nor longer than ``maximumContentByteCount``, and
  ///   `destination` has ``bound(byteCount:)`` bytes.
  /// - Returns: The frame's size in bytes.
  package static func compress(
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
    let block = frame + blockOffset
    // A block that would not get shorter is kept as it is.
    var blockByteCount = compressor.compress(source, into: block)
    var blockSize = UInt32(truncatingIfNeeded: blockByteCount)
    if blockByteCount == 0 {
      blockByteCount = source.count
      blockSize = UInt32(source.count) | notCompressed
      block.copyMemory(from: source.baseAddress!, byteCount: source.count)
    }
    store(blockSize, to: frame + headerByteCount)
    store(UInt32(0), to: block + blockByteCount)
    store(checksum(of: source), to: block + blockByteCount + 4)
    return overhead + blockByteCount
  }

  private static func writeHeader(contentByteCount: Int, to frame: UnsafeMutableRawPointer) {
    store(magic, to: frame)
    store(flags, to: frame + 4)
    store(blockSizeCode, to: frame + 5)
    store(UInt64(contentByteCount), to: frame + 6)
    store(headerChecksum(frame), to: frame + headerByteCount - 1)
  }

  private static func store<Value: FixedWidthInteger>(
    _ value: Value,
    to pointer: UnsafeMutableRawPointer
  ) {
    pointer.storeBytes(of: value.littleEndian, as: Value.self)
  }
}
