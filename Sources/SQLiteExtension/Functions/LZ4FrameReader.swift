import CLZ4
import CSQLiteExtension

/// Decodes frames whose content's size is not known before.
enum LZ4FrameReader {
  private static let stepByteCount = 256 << 10

  /// Decodes the one frame that is all of `source`.
  ///
  /// Memory grows with what is really decoded, so that a frame's header cannot ask for it.
  ///
  /// - Throws: ``SQLError`` when the frame is damaged, or holds more than `byteLimit` bytes.
  static func decode(_ source: UnsafeRawBufferPointer, byteLimit: Int) throws -> SQLValue {
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
          : SQLError(code: SQLITE_TOOBIG, message: "lz4_frame_decode: the content is too long")
      }
    }
    guard consumed == source.count else { throw damaged("bytes follow it") }
    return .blob(content)
  }

  private static func damaged(_ problem: String) -> SQLError {
    .misuse("lz4_frame_decode: the LZ4 frame is damaged (\(problem))")
  }
}
