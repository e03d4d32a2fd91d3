/// Gives tests the stored form of chunks.
package struct ChunkProbe: Sendable {
  /// `lz4` or `raw`.
  package var encoding: String
  package var stored: [UInt8]
  package var digests: [UInt8]

  package init(encoding: String, stored: [UInt8], digests: [UInt8]) {
    self.encoding = encoding
    self.stored = stored
    self.digests = digests
  }

  /// Makes a chunk of up to 16 pages.
  package init(pages: [UInt8]) throws {
    let buffer = ChunkBuffer()
    buffer.begin(chunkID: 1)
    pages.withUnsafeBytes { bytes in
      for offset in stride(from: 0, to: bytes.count, by: Page.byteCount) {
        let page = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + Page.byteCount)])
        _ = buffer.append(page.baseAddress!, digest: PageDigest(of: page))
      }
    }
    try buffer.compress()
    encoding = buffer.encoding == .lz4 ? "lz4" : "raw"
    stored = Array(buffer.stored[..<buffer.storedByteCount])
    digests = Array(buffer.digests[..<(buffer.pageCount * PageDigest.byteCount)])
  }

  /// The pages, or what is wrong with the chunk.
  package func pages(verifyingDigests: Bool) throws -> Result<[UInt8], ChunkProblem> {
    let buffer = ChunkBuffer()
    buffer.begin(chunkID: 1)
    buffer.pageCount = digests.count / PageDigest.byteCount
    buffer.encoding = encoding == "lz4" ? .lz4 : .raw
    buffer.storedByteCount = stored.count
    stored.withUnsafeBytes { buffer.stored.copyMemory(from: $0) }
    digests.withUnsafeBytes { buffer.digests.copyMemory(from: $0) }
    if let text = buffer.decompress(
      with: try LZ4FrameDecoder(),
      verifyingDigests: verifyingDigests
    ) {
      return .failure(ChunkProblem(text: text))
    }
    return .success(Array(buffer.validPages))
  }

  /// What is wrong with a chunk, in the library's words.
  package struct ChunkProblem: Error, Hashable {
    package var text: String
  }
}
