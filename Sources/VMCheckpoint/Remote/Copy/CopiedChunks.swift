/// Chunks on their way from one store to another, which threads prove or compress.
///
/// A thread proves each page of a chunk that goes over as it is, by its SHA-256: whoever wrote the first store may have
/// lied, and the second finds pages by what their digests say. It also makes the fingerprints, whose key is the second
/// store's.
struct CopiedChunks {
  /// What is to be done with a chunk.
  enum Work {
    /// It is as the first store has it.
    case prove
    /// It has pages that were gathered.
    case compress
  }

  /// A chunk under way. The thread that has it uses it alone.
  final class Item: @unchecked Sendable {
    let chunk: ChunkBuffer
    var work = Work.prove
    /// Its number in the first store.
    var sourceID: Int64 = 0
    /// Whether it is done, and waits to be written.
    var isReady = false

    init() throws(VMCheckpointError) { chunk = try ChunkBuffer() }
  }

  let fingerprinter: PageFingerprinter
  /// Of the snapshot, for messages.
  let title: String

  /// What each thread does with one item after another.
  func makeWorker() throws(VMCheckpointError) -> ((Item) throws(VMCheckpointError) -> Void) {
    let decoder = try LZ4FrameDecoder()
    let compressor = try ChunkCompressor(ChunkCompression.default.effort)
    return { (item) throws(VMCheckpointError) in
      switch item.work {
      case .prove: try prove(item.chunk, item.sourceID, decoder)
      case .compress: item.chunk.compress(with: compressor, fingerprinter)
      }
      item.isReady = true
    }
  }

  private func prove(
    _ chunk: ChunkBuffer,
    _ sourceID: Int64,
    _ decoder: LZ4FrameDecoder
  ) throws(VMCheckpointError) {
    if let problem = chunk.decompress(with: decoder, check: .digests) {
      throw Self.damage(title, sourceID, problem)
    }
    chunk.makeFingerprints(fingerprinter)
  }

  static func damage(_ title: String, _ chunkID: Int64, _ problem: String) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "\(title) is damaged: chunk \(chunkID): \(problem)",
      hint: "see what is hurt with: vmckpt verify"
    )
  }
}
