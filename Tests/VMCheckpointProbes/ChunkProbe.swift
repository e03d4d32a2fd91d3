package import VMCheckpoint

/// Gives tests the stored form of chunks.
package struct ChunkProbe: Sendable {
  /// `lz4` or `raw`.
  package var encoding: String
  package var stored: [UInt8]
  package var digests: [UInt8]
  /// With the seed 0; none, or one for each page.
  package var fingerprints: [UInt8] = []

  package init(encoding: String, stored: [UInt8], digests: [UInt8]) {
    self.encoding = encoding
    self.stored = stored
    self.digests = digests
  }

  /// Makes a chunk of up to 16 pages.
  package init(pages: [UInt8], compression: ChunkCompression = .default) throws {
    let buffer = try ChunkBuffer()
    buffer.begin(chunkID: 1)
    pages.withUnsafeBytes { bytes in
      for offset in stride(from: 0, to: bytes.count, by: Page.byteCount) {
        let page = UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + Page.byteCount)])
        _ = buffer.append(page.baseAddress!, digest: PageDigest(of: page))
      }
    }
    buffer.compress(with: try ChunkCompressor(compression.effort), PageFingerprinter(seed: 0))
    encoding = buffer.encoding == .lz4 ? "lz4" : "raw"
    stored = Array(buffer.stored[..<buffer.storedByteCount])
    digests = Array(buffer.digests[..<(buffer.pageCount * PageDigest.byteCount)])
    fingerprints = Array(
      buffer.fingerprints[..<(buffer.pageCount * PageFingerprinter.byteCount)]
    )
  }

  /// The pages, or what is wrong with the chunk.
  package func pages(verifyingDigests: Bool) throws -> Result<[UInt8], ChunkProblem> {
    try pages(check: verifyingDigests ? .digests : .quick(StoreSeed(value: 0)))
  }

  /// As a restore makes them, which asks the fingerprints first.
  package func restoredPages() throws -> Result<[UInt8], ChunkProblem> {
    try pages(check: .quick(StoreSeed(value: 0)))
  }

  /// A page made alone, as for a VM that waits for it; `nil` where that cannot be done.
  package func pageAlone(_ slot: Int) throws -> [UInt8]? {
    let buffer = try loaded()
    return withExtendedLifetime(buffer) {
      buffer.decompressPage(slot, PageFingerprinter(seed: 0)).map { Array($0) }
    }
  }

  private func pages(check: PageCheck) throws -> Result<[UInt8], ChunkProblem> {
    let buffer = try loaded()
    if let text = buffer.decompress(with: try LZ4FrameDecoder(), check: check) {
      return .failure(ChunkProblem(text: text))
    }
    return .success(Array(buffer.validPages))
  }

  private func loaded() throws -> ChunkBuffer {
    let buffer = try ChunkBuffer()
    buffer.begin(chunkID: 1)
    buffer.pageCount = digests.count / PageDigest.byteCount
    buffer.encoding = encoding == "lz4" ? .lz4 : .raw
    buffer.storedByteCount = stored.count
    stored.withUnsafeBytes { buffer.stored.copyMemory(from: $0) }
    digests.withUnsafeBytes { buffer.digests.copyMemory(from: $0) }
    fingerprints.withUnsafeBytes { buffer.fingerprints.copyMemory(from: $0) }
    buffer.hasFingerprints =
      fingerprints.count == buffer.pageCount * PageFingerprinter.byteCount
    return buffer
  }

  /// The frame that liblz4's own frame functions make of `pages`.
  package static func libraryFrame(of pages: [UInt8]) throws -> [UInt8] {
    var frame = [UInt8](repeating: 0, count: LZ4Frame.bound(byteCount: pages.count))
    let byteCount = try pages.withUnsafeBytes { source in
      try frame.withUnsafeMutableBytes { try LZ4Frame.compress(source, into: $0) }
    }
    return Array(frame.prefix(byteCount))
  }

  /// The checksum that frames have.
  package static func checksum(of bytes: [UInt8]) -> UInt32 {
    bytes.withUnsafeBytes { ChunkFrame.checksum(of: $0) }
  }

  /// What is wrong with a chunk, in the library's words.
  package struct ChunkProblem: Error, Hashable {
    package var text: String
  }
}
