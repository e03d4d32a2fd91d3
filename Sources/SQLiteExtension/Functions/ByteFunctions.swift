import CSQLiteExtension
import VMCheckpointCore

/// Functions on bytes alone.
extension ScalarFunction {
  static var byteFunctions: [ScalarFunction] {
    [hexdump, pageSHA256, lz4FrameDecode, chunkPages]
  }

  private static var hexdump: ScalarFunction {
    ScalarFunction("hexdump", isDeterministic: true) { _, arguments in
      let base = arguments.count > 1 && !arguments[1].isNull ? try arguments[1].bits() : 0
      return try arguments[0].withBytes { bytes in
        guard bytes.count <= HexDump.maximumByteCount else {
          throw SQLError.misuse("hexdump: takes at most \(HexDump.maximumByteCount) bytes")
        }
        return .text(HexDump.text(of: bytes, base: base))
      }
    }
  }

  private static var pageSHA256: ScalarFunction {
    ScalarFunction("page_sha256", isDeterministic: true) { _, arguments in
      try arguments[0].withBytes { .text(PageDigest(of: $0).description) }
    }
  }

  private static var lz4FrameDecode: ScalarFunction {
    ScalarFunction("lz4_frame_decode", isDeterministic: true) { connection, arguments in
      let limit = Int(vmx_length_limit(connection.database))
      return try arguments[0].withBytes {
        try .blob(
          LZ4FrameReader.decode(
            $0,
            byteLimit: limit,
            allowsSkippableFrames: true,
            for: "lz4_frame_decode"
          )
        )
      }
    }
  }

  private static var chunkPages: ScalarFunction {
    ScalarFunction("chunk_pages", isDeterministic: true) { _, arguments in
      let encoding = try arguments[0].text()
      return try arguments[1].withBytes { data in
        guard (1...ChunkReader.byteCapacity).contains(data.count) else { throw noChunk }
        switch encoding {
        case "lz4": return try .blob(pages(ofFrame: data))
        case "raw":
          guard data.count % Page.byteCount == 0 else { throw noChunk }
          return .blob(copying: data)
        default: throw SQLError.misuse("chunk_pages: the encoding must be 'lz4' or 'raw'")
        }
      }
    }
  }

  private static func pages(ofFrame data: UnsafeRawBufferPointer) throws -> [UInt8] {
    guard
      let (frame, shuffled) = ShuffledSlots.split(
        data,
        pageCount: ChunkReader.byteCapacity / Page.byteCount
      )
    else { throw SQLError.misuse("chunk_pages: the mark of shuffled pages is damaged") }
    var pages = try LZ4FrameReader.decode(
      frame,
      byteLimit: ChunkReader.byteCapacity,
      allowsSkippableFrames: false,
      for: "chunk_pages"
    )
    guard !pages.isEmpty, pages.count % Page.byteCount == 0,
      Int(shuffled.bits) >> (pages.count / Page.byteCount) == 0
    else { throw noChunk }
    pages.withUnsafeMutableBytes { shuffled.unshuffle($0) }
    return pages
  }

  private static var noChunk: SQLError {
    .misuse("chunk_pages: this is no chunk of 1 to 16 pages")
  }
}
