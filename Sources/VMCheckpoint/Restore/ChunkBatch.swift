import GRDB

/// Chunks that a restore reads in one transaction and one worker decodes, each with what it is for. Goes
/// round between them; the thread that has it uses it alone.
final class ChunkBatch<Use>: @unchecked Sendable {
  /// No writer can commit while they are read: about a millisecond.
  static var capacity: Int { 16 }

  let chunks: [ChunkBuffer]
  var uses = [[Use]](repeating: [], count: capacity)
  /// How many of the chunks are in use.
  private(set) var count = 0

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init() throws(VMCheckpointError) { chunks = try ChunkBuffer.make(Self.capacity) }

  var isFull: Bool { count == Self.capacity }

  func removeAll() { count = 0 }

  /// Loads the next chunk, whose `uses` the caller has set.
  ///
  /// - Precondition: The batch is not full.
  /// - Returns: What is wrong with the chunk, or `nil`.
  /// - Throws: `DatabaseError`.
  func load(
    _ chunkID: Int64,
    with reader: ChunkReader,
    _ clock: StageClock<RestoreStage>
  ) throws -> String? {
    let chunk = chunks[count]
    let start = MonotonicClock.nowSeconds
    let problem = try reader.load(chunkID, into: chunk)
    clock.add(
      .read,
      seconds: MonotonicClock.nowSeconds - start,
      byteCount: chunk.storedByteCount
    )
    count += 1
    return problem
  }
}
