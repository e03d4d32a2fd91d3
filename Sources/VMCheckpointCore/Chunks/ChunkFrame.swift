import CLZ4
import CXXHash

/// The one shape of LZ4 frames that vmckpt gives chunks, taken apart: at most 64 KiB of content in one
/// independent block, with the content's size and checksum.
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
/// liblz4's decoder of frames takes a third of a restore, with a checksum at 2 GB/s where libxxhash's
/// does 11, and cannot stop before a block's end; its decoder of blocks can.
///
/// Source: the LZ4 frame format, https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md
package struct ChunkFrame {
  package static let maximumContentByteCount = 64 << 10

  package static let magic: UInt32 = 0x184D_2204
  package static let flags: UInt8 = 0x6c
  package static let blockSizeCode: UInt8 = 0x40
  package static let headerByteCount = 15
  package static let blockOffset = headerByteCount + 4
  /// Behind the block: the end mark and the content's checksum.
  package static let trailerByteCount = 8
  /// In the block's size.
  package static let notCompressed: UInt32 = 1 << 31

  private let block: UnsafeRawBufferPointer
  private let isCompressed: Bool
  private let contentChecksum: UInt32

  /// `nil` for a frame of another form, or one that is damaged. ``LZ4FrameDecoder`` can report what
  /// is wrong with it.
  package init?(_ frame: UnsafeRawBufferPointer, contentByteCount: Int) {
    func number<Value: FixedWidthInteger>(at offset: Int, _: Value.Type) -> Value {
      Value(littleEndian: frame.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
    guard frame.count > Self.blockOffset + Self.trailerByteCount,
      (1...Self.maximumContentByteCount).contains(contentByteCount),
      number(at: 0, UInt32.self) == Self.magic, frame[4] == Self.flags,
      frame[5] == Self.blockSizeCode,
      number(at: 6, UInt64.self) == UInt64(contentByteCount),
      frame[14] == Self.headerChecksum(frame.baseAddress!)
    else { return nil }
    let sizeWord = number(at: Self.headerByteCount, UInt32.self)
    let end = frame.count - Self.trailerByteCount
    guard Int(sizeWord & ~Self.notCompressed) == end - Self.blockOffset,
      number(at: end, UInt32.self) == 0
    else { return nil }
    block = UnsafeRawBufferPointer(rebasing: frame[Self.blockOffset..<end])
    isCompressed = sizeWord & Self.notCompressed == 0
    contentChecksum = number(at: end + 4, UInt32.self)
  }

  /// The checksum of a frame's content.
  package static func checksum(of content: UnsafeRawBufferPointer) -> UInt32 {
    XXH32(content.baseAddress, content.count, 0)
  }

  /// The checksum of the header at `frame`.
  package static func headerChecksum(_ frame: UnsafeRawPointer) -> UInt8 {
    let descriptor = UnsafeRawBufferPointer(start: frame + 4, count: headerByteCount - 5)
    return UInt8(truncatingIfNeeded: checksum(of: descriptor) >> 8)
  }

  /// Fills `destination` with all of the content, and compares its checksum.
  ///
  /// - Returns: Whether the frame is sound. `destination` holds anything if not.
  package func decode(into destination: UnsafeMutableRawBufferPointer) -> Bool {
    decodeUnchecked(into: destination)
      && Self.checksum(of: UnsafeRawBufferPointer(destination)) == contentChecksum
  }

  /// As ``decode(into:)``, without the checksum, for callers that have a better one.
  package func decodeUnchecked(into destination: UnsafeMutableRawBufferPointer) -> Bool {
    if isCompressed {
      let count = LZ4_decompress_safe(
        block.baseAddress?.assumingMemoryBound(to: CChar.self),
        destination.baseAddress?.assumingMemoryBound(to: CChar.self),
        CInt(block.count),
        CInt(destination.count)
      )
      return Int(count) == destination.count
    }
    guard block.count == destination.count else { return false }
    destination.copyMemory(from: block)
    return true
  }

  /// Fills `destination` with the beginning of the content. The checksum is that of all of it, and
  /// so nothing has checked these bytes.
  ///
  /// - Returns: Whether the block holds as much.
  package func decodeBeginning(into destination: UnsafeMutableRawBufferPointer) -> Bool {
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
