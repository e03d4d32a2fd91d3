import VMCheckpointCore

extension ScalarFunction {
  static var chunkPages: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "chunk_pages",
        ["encoding", "data"],
        returns: "BLOB",
        "the pages of a chunk, in slot order, from its encoding and data; no digest is compared"
      ),
      isDeterministic: true
    ) { _, arguments in
      let encoding = try arguments[0].text()
      return try arguments[1].withBytes { data in
        guard (1...ChunkFormat.byteCapacity).contains(data.count) else { throw noChunk }
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
        pageCount: ChunkFormat.byteCapacity / Page.byteCount
      )
    else { throw SQLError.misuse("chunk_pages: the mark of shuffled pages is damaged") }
    var pages = try LZ4FrameReader.decode(
      frame,
      byteLimit: ChunkFormat.byteCapacity,
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
    .misuse("chunk_pages: this is not a chunk of 1 to 16 pages")
  }
}
