/// Decodes chunks, and keeps the last few.
///
/// A kept chunk is found by its id and its pages' digests, so that it is right even when another store has
/// come to the place of the file.
package final class DecodedChunks<Database: StoreDatabase> {
  // The reader owns what it keeps.
  private unowned let reader: StoreReader<Database>
  private let decoder: LZ4FrameDecoder
  private var chunks: [DecodedChunk] = []
  /// The one that was asked for last.
  private var current: DecodedChunk?
  private let capacity: Int
  private var clock: UInt64 = 0

  /// - Parameter capacity: How many chunks of 64 KiB to keep.
  package init(_ reader: StoreReader<Database>, capacity: Int) throws {
    self.reader = reader
    self.capacity = capacity
    decoder = try LZ4FrameDecoder()
  }

  /// All of the chunk's pages. They have their fingerprints, or, where these do not agree or are missing,
  /// their SHA-256s.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the chunk's data is missing or damaged.
  package func chunk(_ row: ChunkRow) throws -> DecodedChunk {
    let chunk = keep(row)
    if chunk.isChecked { return chunk }
    let fingerprinter = try reader.seed().fingerprinter
    try load(chunk) { stored in
      try chunk.decode(stored, row.fingerprints, fingerprinter, with: decoder)
    }
    return chunk
  }

  /// The page in a slot of the chunk, its SHA-256 found right; valid until another chunk is read.
  ///
  /// Of a chunk that is not kept, no more is decoded than up to this page, and the frame's checksum,
  /// which is that of all pages, is left alone. Who reads a second page of it may read them all.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the chunk's data is missing or damaged, or has no such slot.
  package func page(_ row: ChunkRow, slot: Int) throws -> UnsafeRawBufferPointer {
    guard (0..<row.pageCount).contains(slot) else {
      throw VMCheckpointError.noSlot(slot, chunkID: row.id)
    }
    let chunk = keep(row)
    if slot >= chunk.decodedPageCount {
      try load(chunk) { stored in
        guard chunk.isCompressed else { return try chunk.decode(stored, with: decoder) }
        let pageCount = chunk.decodedPageCount == 0 ? slot + 1 : chunk.pageCount
        let pages = chunk.pages(count: pageCount)
        let isDecoded = try chunk.naming { () throws(ChunkDamage) in
          try CompressedChunk(stored, pageCount: chunk.pageCount).decodeBeginning(into: pages)
        }
        guard isDecoded else { return try chunk.decode(stored, with: decoder) }
        chunk.decodedPageCount = pageCount
      }
    }
    return try chunk.checkedPage(slot)
  }

  /// The chunk of `row` for who reads chunks one after another: if need be, its data is given to `thread` to be decoded.
  ///
  /// - Returns: The chunk, and the number by which ``DecodingThread/finish(_:)`` is asked for it first; `nil`: who asks
  ///   for those before it gets it too.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the chunk's data is missing.
  func begin(
    _ row: ChunkRow,
    on thread: DecodingThread
  ) throws -> (chunk: DecodedChunk, number: Int?) {
    let chunk = keep(row)
    // One that is begun is the thread's.
    if chunk.isBegun || chunk.isChecked { return (chunk, nil) }
    var number = 0
    try load(chunk) { stored in
      number = thread.add(chunk, stored, row.fingerprints)
    }
    return (chunk, number)
  }

  /// The kept chunk for `row`, if need be one in which nothing is decoded yet.
  private func keep(_ row: ChunkRow) -> DecodedChunk {
    clock += 1
    if let current, current.holds(row) {
      current.lastUse = clock
      return current
    }
    let chunk: DecodedChunk
    if let kept = chunks.first(where: { $0.holds(row) }) {
      chunk = kept
    } else if chunks.count < capacity {
      chunk = DecodedChunk()
      chunks.append(chunk)
      chunk.begin(row)
    } else {
      chunk = chunks.min { $0.lastUse < $1.lastUse }!
      chunk.begin(row)
    }
    chunk.lastUse = clock
    current = chunk
    return chunk
  }

  /// Calls `body` with the chunk's stored bytes. When that fails, the chunk is not kept.
  private func load(
    _ chunk: DecodedChunk,
    _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    do {
      let data = try reader.statement(.chunkData)
      defer { data.reset() }
      try data.bind(chunk.id, at: 1)
      guard try data.step(), !data.isNull(0) else {
        guard try !reader.hasRemotes() else {
          throw VMCheckpointError(
            .unavailable,
            "the data of chunk \(chunk.id) is not here, and perhaps in a remote",
            hint: "bring the snapshot's pages with: vmckpt pull"
          )
        }
        throw VMCheckpointError.corrupt("chunk \(chunk.id): its data is missing or too long")
      }
      let stored = try data.blob(0)
      guard Int64(stored.count) == chunk.storedByteCount else {
        throw VMCheckpointError.wrongLength(chunk.id)
      }
      try body(stored)
    } catch {
      chunk.clear()
      throw error
    }
  }
}
