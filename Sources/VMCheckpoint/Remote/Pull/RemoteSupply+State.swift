/// What a supply knows, and has to do.
extension RemoteSupply {
  /// Chunks that will be needed, in the order in which they will be.
  struct Wish {
    var chunkIDs: [Int64]
    /// Whether it is no more than what is left.
    var isBackground: Bool
  }

  enum Task {
    case wish(Wish)
    case planned(SupplyPlan.Range, isBackground: Bool)
    case urgent(Int64)
  }

  struct State {
    /// Chunks without data, here or in memory.
    var missing: Set<Int64>
    var inFlight: Set<Int64> = []
    /// Chunks that the snapshot does not name any more, since its pages were found elsewhere: its extents are to be read
    /// again.
    var moved: Set<Int64> = []
    /// What somebody waits for, and is not in flight.
    var urgent: [Int64] = []
    /// Chunks that are brought by themselves: a neighbour of theirs is damaged.
    var alone: Set<Int64> = []
    var failures: [Int64: VMCheckpointError] = [:]
    var wishes: [Wish] = []
    var isPlanning = false
    /// Of `planned`.
    var isBackground = false
    var planned: ArraySlice<SupplyPlan.Range> = []
    var prefetchCount = 0
    var urgentCount = 0
    /// Where the last range ended, and how long the next one is that goes on there.
    var next: [RemoteID: (offset: UInt64, byteCount: Int)] = [:]
    var threads: [WorkerThreads] = []
    var isClosed = false
    var counts = Counts()
  }

  struct Listener {
    weak var bell: Doorbell?
  }

  /// What one thread needs.
  struct Worker {
    let range: ChunkRange
    let chunk: ChunkBuffer
    let decoder: LZ4FrameDecoder
  }
}
