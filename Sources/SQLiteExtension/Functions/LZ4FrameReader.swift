import CLZ4
import CSQLiteExtension
import VMCheckpointCore

/// Decodes frames whose content's size is not known before.
enum LZ4FrameReader {
  private static let stepByteCount = 256 << 10

  private static let skippableHeaderByteCount = 8

  /// Decodes the one frame that is all of `source`, but for skippable frames behind it if they may be
  /// there.
  ///
  /// Memory grows with what is really decoded, so that a frame's header cannot ask for it.
  ///
  /// - Parameter function: Who asks, for messages.
  /// - Throws: ``SQLError`` when the frame is damaged, or holds more than `byteLimit` bytes.
  static func decode(
    _ source: UnsafeRawBufferPointer,
    byteLimit: Int,
    allowsSkippableFrames: Bool,
    for function: String
  ) throws -> [UInt8] {
    func damaged(_ problem: String) -> SQLError {
      .misuse("\(function): the LZ4 frame is damaged (\(problem))")
    }
    var context: OpaquePointer?
    guard LZ4F_isError(LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))) == 0 else {
      throw SQLError(code: SQLITE_NOMEM, message: "out of memory")
    }
    defer { LZ4F_freeDecompressionContext(context) }
    var content: [UInt8] = []
    var consumed = 0
    while true {
      var sourceCount = source.count - consumed
      var produced = 0
      var result = 0
      let start = content.count
      let capacity = min(stepByteCount, byteLimit - start)
      content.append(contentsOf: repeatElement(0, count: capacity))
      content.withUnsafeMutableBytes { bytes in
        produced = capacity
        result = LZ4F_decompress(
          context,
          bytes.baseAddress.map { $0 + start },
          &produced,
          source.baseAddress.map { $0 + consumed },
          &sourceCount,
          nil
        )
      }
      content.removeLast(capacity - (LZ4F_isError(result) == 0 ? produced : 0))
      guard LZ4F_isError(result) == 0 else { throw damaged(LZ4Frame.errorName(result)) }
      consumed += sourceCount
      if result == 0 { break }
      if sourceCount == 0 && produced == 0 {
        throw consumed == source.count
          ? damaged("it is cut short")
          : SQLError(code: SQLITE_TOOBIG, message: "\(function): the content is too long")
      }
    }
    guard consumed == source.count || allowsSkippableFrames && areSkippable(source[consumed...])
    else { throw damaged("bytes follow it") }
    return content
  }

  /// Whether nothing but skippable frames is there, which may be none.
  private static func areSkippable(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
    var rest = UnsafeRawBufferPointer(rebasing: bytes)
    while !rest.isEmpty {
      guard rest.count >= skippableHeaderByteCount,
        UInt32(littleEndian: rest.loadUnaligned(as: UInt32.self)) & ~0xf == 0x184D_2A50
      else { return false }
      let size = UInt32(littleEndian: rest.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
      let end = skippableHeaderByteCount + Int(size)
      guard end <= rest.count else { return false }
      rest = UnsafeRawBufferPointer(rebasing: rest[end...])
    }
    return true
  }
}
