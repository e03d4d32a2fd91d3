import GRDB

/// Reads single stored pages; keeps the chunk that it read last.
struct StoredPageReader {
  private let database: Database
  private var state: State?

  private struct State {
    let reader: ChunkReader
    let decoder: LZ4FrameDecoder
    let buffer: ChunkBuffer
    /// `nil` if the store has lost its seed; whoever reads all extents reports that.
    let seed: StoreSeed?
  }

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

  /// The page of a snapshot at `pfn` as bare RAM, its extent's checksum compared as well; zero where
  /// nothing is stored.
  mutating func page(of snapshot: SnapshotRow, at pfn: PFN) throws -> PageContents {
    let reach = UInt64(ChunkFormat.pageCapacity - 1)
    var extents = try ExtentReader(
      database,
      snapshotID: snapshot.id,
      firstPFN: pfn.rawValue < reach ? 0 : pfn.rawValue - reach,
      lastPFN: pfn.rawValue
    )
    while let extent = try extents.next() {
      if extent.endPFN > pfn.rawValue {
        let page = try page(at: extent.location(at: Int(pfn.rawValue - extent.firstPFN)))
        try check(extent, of: snapshot)
        return page
      }
    }
    return .zero
  }

  /// Checks an extent of whose chunk a page was just read.
  private mutating func check(_ extent: Extent, of snapshot: SnapshotRow) throws {
    let state = try loadedState()
    let problem = ExtentCheck(state.seed, snapshot: snapshot.uuid)
      .problem(of: extent, in: state.buffer)
    guard let problem else { return }
    throw VMCheckpointError(
      .corrupt,
      "chunk \(extent.chunkID), at PFN \(hexString(extent.firstPFN)): \(problem)",
      hint: "see what is hurt with: vmckpt verify"
    )
  }

  private mutating func loadedState() throws -> State {
    if let state { return state }
    let made = State(
      reader: try ChunkReader(database),
      decoder: try LZ4FrameDecoder(),
      buffer: try ChunkBuffer(),
      seed: try? StoreSeed(database)
    )
    state = made
    return made
  }
}
