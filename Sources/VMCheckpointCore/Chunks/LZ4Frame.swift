import CLZ4

/// Compresses into standard LZ4 frames, which the `lz4` tool opens too.
///
/// Holds no state, so that threads can share it; LZ4 keeps its working memory on the stack.
package enum LZ4Frame {
  /// The most bytes that a frame for `byteCount` bytes can take.
  package static func bound(byteCount: Int) -> Int {
    var preferences = preferences(byteCount: byteCount)
    return LZ4F_compressFrameBound(byteCount, &preferences)
  }

  /// Compresses `source` into one frame with a content checksum and the content's size.
  ///
  /// - Parameter destination: At least ``bound(byteCount:)`` bytes.
  /// - Returns: The frame's size in bytes.
  package static func compress(
    _ source: UnsafeRawBufferPointer,
    into destination: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Int {
    var preferences = preferences(byteCount: source.count)
    let result = LZ4F_compressFrame(
      destination.baseAddress,
      destination.count,
      source.baseAddress,
      source.count,
      &preferences
    )
    guard LZ4F_isError(result) == 0 else {
      throw VMCheckpointError(.inputOutput, "LZ4 cannot compress: \(errorName(result))")
    }
    return result
  }

  /// What LZ4 calls the error in a function's result.
  package static func errorName(_ result: Int) -> String {
    LZ4F_getErrorName(result).map { String(cString: $0) } ?? "unknown error"
  }

  private static func preferences(byteCount: Int) -> LZ4F_preferences_t {
    var preferences = LZ4F_preferences_t()
    preferences.frameInfo.blockSizeID =
      byteCount <= 64 << 10 ? LZ4F_max64KB : LZ4F_max1MB
    preferences.frameInfo.blockMode = LZ4F_blockIndependent
    preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled
    preferences.frameInfo.contentSize = UInt64(byteCount)
    return preferences
  }
}

/// Decompresses LZ4 frames whose content's size is known, trusting nothing else in them.
///
/// One thread at a time.
package final class LZ4FrameDecoder {
  private var context: OpaquePointer

  package init() throws(VMCheckpointError) {
    var context: OpaquePointer?
    let result = LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))
    guard LZ4F_isError(result) == 0, let context else {
      throw VMCheckpointError(.inputOutput, "LZ4 cannot start: \(LZ4Frame.errorName(result))")
    }
    self.context = context
  }

  deinit {
    LZ4F_freeDecompressionContext(context)
  }

  /// Decompresses exactly one frame that is all of `source` and fills all of `destination`.
  ///
  /// - Returns: `nil` when that went well, with the frame's checksum found right; else what is
  ///   wrong with the frame. `destination` holds anything then.
  package func decompress(
    _ source: UnsafeRawBufferPointer,
    into destination: UnsafeMutableRawBufferPointer
  ) -> String? {
    LZ4F_resetDecompressionContext(context)
    var consumed = 0
    var produced = 0
    while true {
      var sourceCount = source.count - consumed
      var destinationCount = destination.count - produced
      let result = LZ4F_decompress(
        context,
        destination.baseAddress.map { $0 + produced },
        &destinationCount,
        source.baseAddress.map { $0 + consumed },
        &sourceCount,
        nil
      )
      guard LZ4F_isError(result) == 0 else { return LZ4Frame.errorName(result) }
      consumed += sourceCount
      produced += destinationCount
      if result == 0 { break }
      // No progress means that the frame wants more input, or holds more than it should.
      if sourceCount == 0 && destinationCount == 0 {
        return consumed == source.count ? "the LZ4 frame is cut short" : "the content is too long"
      }
    }
    guard consumed == source.count else { return "bytes follow the LZ4 frame" }
    guard produced == destination.count else { return "the content is too short" }
    return nil
  }
}
