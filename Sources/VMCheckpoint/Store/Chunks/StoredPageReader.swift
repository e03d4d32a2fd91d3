import GRDB

/// Reads single stored pages; keeps the chunk that it read last.
struct StoredPageReader {
  private let database: Database
  private var state: (reader: ChunkReader, decoder: LZ4FrameDecoder, buffer: ChunkBuffer)?

  init(_ database: Database) {
    self.database = database
  }

  /// The page at `location`, its SHA-256 checked.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`, or `DatabaseError`.
  mutating func page(at location: PageLocation) throws -> PageContents {
    let state = try loadedState()
    if state.buffer.chunkID != location.chunkID {
      let problem =
        try state.reader.load(location.chunkID, into: state.buffer)
        ?? state.buffer.decompress(with: state.decoder, check: .digests)
      if let problem {
        state.buffer.begin(chunkID: 0)
        throw VMCheckpointError(.corrupt, "chunk \(location.chunkID): \(problem)")
      }
    }
    guard location.slot < state.buffer.pageCount,
      let contents = PageContents(copying: state.buffer.page(location.slot))
    else {
      throw VMCheckpointError(
        .corrupt,
        "chunk \(location.chunkID) has no slot \(location.slot)"
      )
    }
    return contents
  }

  /// The page of a snapshot at `pfn` as bare RAM; zero where nothing is stored.
  mutating func page(of snapshotID: Int64, at pfn: PFN) throws -> PageContents {
    let reach = UInt64(StoreFormat.chunkPageCapacity - 1)
    var extents = try ExtentReader(
      database,
      snapshotID: snapshotID,
      firstPFN: pfn.rawValue < reach ? 0 : pfn.rawValue - reach,
      lastPFN: pfn.rawValue
    )
    while let extent = try extents.next() {
      if extent.endPFN > pfn.rawValue {
        return try page(at: extent.location(at: Int(pfn.rawValue - extent.firstPFN)))
      }
    }
    return .zero
  }

  private mutating func loadedState() throws -> (
    reader: ChunkReader, decoder: LZ4FrameDecoder, buffer: ChunkBuffer
  ) {
    if let state { return state }
    let made = (try ChunkReader(database), try LZ4FrameDecoder(), try ChunkBuffer())
    state = made
    return made
  }
}
