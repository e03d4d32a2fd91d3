import VMCheckpoint

/// Gives benchmarks the kernels of saves and restores, one at a time and on one thread, over RAM that
/// they hold.
///
/// The RAM is whole pages, aligned to a page, and outlives the probe.
package final class KernelProbe {
  private let ram: UnsafeRawBufferPointer
  /// The indices of the pages that are not zero.
  package let dataPageIndices: [Int]
  private let chunk: ChunkBuffer
  private let compressor: ChunkCompressor
  private let decoder: LZ4FrameDecoder
  private let digests: [PageDigest]
  private let fingerprinter = PageFingerprinter(seed: 1)
  private var stored: [StoredChunk] = []

  private struct StoredChunk {
    var encoding: ChunkEncoding
    var bytes: [UInt8]
    var fingerprints: [UInt8]
  }

  package init(ram: UnsafeRawBufferPointer) throws {
    self.ram = ram
    chunk = try ChunkBuffer()
    compressor = try ChunkCompressor(ChunkCompression.default.effort)
    decoder = try LZ4FrameDecoder()
    dataPageIndices = (0..<(ram.count / Page.byteCount)).filter {
      !ZeroPage.isZero(ram.baseAddress! + $0 * Page.byteCount)
    }
    digests = dataPageIndices.map { PageDigest(of: Self.page($0, of: ram)) }
    forEachChunk { pageRange in
      pack(pageRange)
      chunk.compress(with: compressor, fingerprinter)
      stored.append(
        StoredChunk(
          encoding: chunk.encoding,
          bytes: Array(chunk.stored[..<chunk.storedByteCount]),
          fingerprints: Array(chunk.fingerprints)
        )
      )
    }
  }

  /// Of the pages that are not zero.
  package var dataByteCount: Int { dataPageIndices.count * Page.byteCount }

  /// What the chunks take.
  package var storedByteCount: Int { stored.reduce(0) { $0 + $1.bytes.count } }

  /// Counts the zero pages.
  package func scan() -> Int { Self.zeroPageCount(in: ram) }

  /// Counts the zero pages of `bytes`, which are whole pages, aligned to a page.
  package static func zeroPageCount(in bytes: UnsafeRawBufferPointer) -> Int {
    var count = 0
    for index in 0..<(bytes.count / Page.byteCount)
    where ZeroPage.isZero(bytes.baseAddress! + index * Page.byteCount) {
      count += 1
    }
    return count
  }

  /// Hashes the pages that are not zero.
  package func digest() -> UInt64 {
    dataPageIndices.reduce(0) { $0 ^ PageDigest(of: Self.page($1, of: ram)).prefix }
  }

  /// Computes the fingerprints of the pages that are not zero.
  package func fingerprint() -> UInt64 {
    dataPageIndices.reduce(0) {
      $0 ^ fingerprinter.fingerprint(of: ram.baseAddress! + $1 * Page.byteCount)
    }
  }

  /// Packs the pages that are not zero into chunks, without compressing them.
  package func pack() -> Int {
    var count = 0
    forEachChunk { pageRange in
      pack(pageRange)
      count += chunk.pageCount
    }
    return count
  }

  /// Packs the pages that are not zero into chunks and compresses these; returns their size.
  package func packAndCompress() -> Int {
    var byteCount = 0
    forEachChunk { pageRange in
      pack(pageRange)
      chunk.compress(with: compressor, fingerprinter)
      byteCount += chunk.storedByteCount
    }
    return byteCount
  }

  /// Decodes all chunks from their stored form, fingerprints compared, as a restore does.
  package func decode() throws {
    for (index, stored) in stored.enumerated() {
      chunk.begin(chunkID: 1)
      let first = index * ChunkFormat.pageCapacity
      chunk.pageCount = min(ChunkFormat.pageCapacity, dataPageIndices.count - first)
      chunk.encoding = stored.encoding
      chunk.storedByteCount = stored.bytes.count
      stored.bytes.withUnsafeBytes { chunk.stored.copyMemory(from: $0) }
      stored.fingerprints.withUnsafeBytes { chunk.fingerprints.copyMemory(from: $0) }
      chunk.hasFingerprints = true
      for slot in 0..<chunk.pageCount {
        digests[first + slot].store(
          to: chunk.digests.baseAddress! + slot * PageDigest.byteCount
        )
      }
      if let problem = chunk.decompress(with: decoder, check: .quick(StoreSeed(value: 1))) {
        throw VMCheckpointError(.corrupt, "a chunk that was just made cannot be read: \(problem)")
      }
    }
  }

  /// Writes the pages that are not zero to their places in a new sparse file at `path`, as a restore
  /// does: consecutive pages of a chunk in one call. The file is not kept.
  package func scatter(to path: String) throws {
    let output = try OutputFile(path: path, overwriting: true)
    try output.setByteCount(UInt64(ram.count))
    var start = 0
    while start < dataPageIndices.count {
      var end = start + 1
      while end < dataPageIndices.count, end % ChunkFormat.pageCapacity != 0,
        dataPageIndices[end] == dataPageIndices[end - 1] + 1
      {
        end += 1
      }
      let offset = dataPageIndices[start] * Page.byteCount
      let byteCount = (end - start) * Page.byteCount
      try output.write(
        UnsafeRawBufferPointer(rebasing: ram[offset..<(offset + byteCount)]),
        at: UInt64(offset)
      )
      start = end
    }
  }

  private func pack(_ range: Range<Int>) {
    chunk.begin(chunkID: 1)
    for index in range {
      _ = chunk.append(
        ram.baseAddress! + dataPageIndices[index] * Page.byteCount,
        digest: digests[index]
      )
    }
  }

  private func forEachChunk(_ body: (Range<Int>) -> Void) {
    var start = 0
    while start < dataPageIndices.count {
      let end = min(start + ChunkFormat.pageCapacity, dataPageIndices.count)
      body(start..<end)
      start = end
    }
  }

  private static func page(_ index: Int, of ram: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: ram.baseAddress! + index * Page.byteCount, count: Page.byteCount)
  }
}
