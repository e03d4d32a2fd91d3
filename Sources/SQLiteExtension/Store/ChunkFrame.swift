import CLZ4
import CSQLiteExtension

/// The LZ4 frame of a chunk, as vmckpt writes them: one independent block, the content's size, and a
/// checksum of the content.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     4  magic number
///          4     1  flags: version 1, independent blocks, content size, content checksum
///          5     1  blocks of at most 64 KiB
///          6     8  content size
///         14     1  second byte of the XXH32 of bytes 4…13
///         15     4  the block's size; the highest bit: its data is not compressed
///         19     n  the block
///         …      4  0: no block follows
///         …      4  XXH32 of the content
///
/// liblz4's decoder of frames cannot stop before a block's end; the decoder of blocks can.
struct ChunkFrame {
  private let block: UnsafeRawBufferPointer
  private let isCompressed: Bool
  private let contentChecksum: UInt32

  private static let magic: UInt32 = 0x184D_2204
  private static let flags: UInt8 = 0x6c
  private static let blockSizeCode: UInt8 = 0x40
  private static let headerByteCount = 15
  /// Behind the block.
  private static let trailerByteCount = 8

  /// `nil` for a frame of another form, or one that is damaged: what is wrong with it,
  /// ``LZ4FrameDecoder`` can tell.
  init?(_ frame: UnsafeRawBufferPointer, contentByteCount: Int) {
    func number<Value: FixedWidthInteger>(at offset: Int, _: Value.Type) -> Value {
      Value(littleEndian: frame.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
    let blockOffset = Self.headerByteCount + 4
    guard frame.count > blockOffset + Self.trailerByteCount,
      number(at: 0, UInt32.self) == Self.magic, frame[4] == Self.flags,
      frame[5] == Self.blockSizeCode,
      number(at: 6, UInt64.self) == UInt64(contentByteCount),
      frame[14] == UInt8(truncatingIfNeeded: vmx_xxh32(frame.baseAddress! + 4, 10) >> 8)
    else { return nil }
    let sizeWord = number(at: Self.headerByteCount, UInt32.self)
    let end = frame.count - Self.trailerByteCount
    guard Int(sizeWord & 0x7fff_ffff) == end - blockOffset, number(at: end, UInt32.self) == 0
    else { return nil }
    block = UnsafeRawBufferPointer(rebasing: frame[blockOffset..<end])
    isCompressed = sizeWord >> 31 == 0
    contentChecksum = number(at: end + 4, UInt32.self)
  }

  /// Fills `destination` with all of the content, and compares its checksum.
  ///
  /// - Returns: Whether the frame is sound.
  func decode(into destination: UnsafeMutableRawBufferPointer) -> Bool {
    if isCompressed {
      let count = LZ4_decompress_safe(
        block.baseAddress?.assumingMemoryBound(to: CChar.self),
        destination.baseAddress?.assumingMemoryBound(to: CChar.self),
        CInt(block.count),
        CInt(destination.count)
      )
      guard Int(count) == destination.count else { return false }
    } else {
      guard block.count == destination.count else { return false }
      destination.copyMemory(from: block)
    }
    return vmx_xxh32(destination.baseAddress!, destination.count) == contentChecksum
  }

  /// Fills `destination` with the beginning of the content. The checksum is that of all of it, and
  /// so nothing has checked these bytes.
  ///
  /// - Returns: Whether the block holds as much.
  func decodeBeginning(into destination: UnsafeMutableRawBufferPointer) -> Bool {
    guard isCompressed else {
      guard block.count >= destination.count else { return false }
      destination.copyMemory(from: UnsafeRawBufferPointer(rebasing: block[..<destination.count]))
      return true
    }
    let count = LZ4_decompress_safe_partial(
      block.baseAddress?.assumingMemoryBound(to: CChar.self),
      destination.baseAddress?.assumingMemoryBound(to: CChar.self),
      CInt(block.count),
      CInt(destination.count),
      CInt(destination.count)
    )
    return Int(count) == destination.count
  }
}
