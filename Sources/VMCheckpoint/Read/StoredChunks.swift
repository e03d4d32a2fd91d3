import Synchronization

/// Loads and decodes chunks for the threads of a ``SnapshotReader``: they read one at a time, and decode
/// together.
final class StoredChunks: Sendable {
  enum Failure: Error {
    /// No chunk has the number any more.
    case missing
    /// What is wrong with it.
    case damaged(String)
  }

  /// What one thread needs.
  private struct Worker: Sendable {
    let buffer: ChunkBuffer
    // Used by one thread at a time, as the buffer is.
    nonisolated(unsafe) let decoder: LZ4FrameDecoder
  }

  private let store: Store
  private let seed: StoreSeed
  // Used only where the store gives its connection.
  private nonisolated(unsafe) let reader: ChunkReader
  private let idle = Mutex<[Worker]>([])

  /// - Throws: ``VMCheckpointError``.
  init(_ store: Store, _ seed: StoreSeed) throws(VMCheckpointError) {
    self.store = store
    self.seed = seed
    reader = try store.readOnce { try ChunkReader($0) }
  }

  /// Fills `slot` with a chunk's pages, which have their fingerprints or their SHA-256s.
  ///
  /// - Parameter brought: The chunk, if it has come from a remote just now; `nil`: it is the store's.
  /// - Returns: How many pages these are.
  /// - Throws: ``Failure``, or ``VMCheckpointError``.
  func load(
    _ chunkID: Int64,
    into slot: ChunkCache.Slot,
    brought: BroughtChunk?
  ) throws -> Int {
    let worker = try takeWorker()
    defer { idle.withLock { $0.append(worker) } }
    let buffer = worker.buffer
    if let brought {
      brought.load(into: buffer)
    } else if let problem = try store.readOnce({ _ in try reader.load(chunkID, into: buffer) }) {
      throw problem == ChunkReader.missing ? Failure.missing : Failure.damaged(problem)
    }
    let problem = buffer.decompress(
      with: worker.decoder,
      into: UnsafeMutableRawBufferPointer(
        rebasing: slot.pages[..<(buffer.pageCount * Page.byteCount)]
      ),
      check: .quick(seed)
    )
    if let problem { throw Failure.damaged(problem) }
    slot.digests.copyMemory(
      from: UnsafeRawBufferPointer(
        rebasing: buffer.digests[..<(buffer.pageCount * PageDigest.byteCount)]
      )
    )
    return buffer.pageCount
  }

  /// Copies one page of a chunk that is in the store, and decodes no more of it than that needs.
  ///
  /// - Parameters:
  ///   - destination: Room for a page.
  ///   - isRight: Whether the chunk is the right one, whose row the buffer has.
  /// - Returns: Whether the page has its fingerprint; `destination` holds anything if not.
  func copyPage(
    _ chunkID: Int64,
    slot: Int,
    to destination: UnsafeMutableRawBufferPointer,
    where isRight: (ChunkBuffer) -> Bool
  ) throws -> Bool {
    let worker = try takeWorker()
    defer { idle.withLock { $0.append(worker) } }
    let buffer = worker.buffer
    guard try store.readOnce({ _ in try reader.load(chunkID, into: buffer) }) == nil,
      slot < buffer.pageCount, isRight(buffer),
      let page = buffer.decompressPage(slot, seed.fingerprinter)
    else { return false }
    destination.copyMemory(from: page)
    return true
  }

  private func takeWorker() throws(VMCheckpointError) -> Worker {
    if let worker = idle.withLock({ $0.popLast() }) { return worker }
    return Worker(buffer: try ChunkBuffer(), decoder: try LZ4FrameDecoder())
  }
}
