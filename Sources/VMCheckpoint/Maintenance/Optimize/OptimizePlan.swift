import GRDB

/// Which chunks one round of `optimize` makes anew, and in which order their pages are stored then.
///
/// The order is that of a restore: the pages of each VM's newest snapshot by PFN, then those that only
/// the snapshots before have, the newer first. All pages of the chosen chunks move in the same round,
/// so that the old chunks can go at its end.
struct OptimizePlan {
  /// 1 GiB of guest memory: 10 s of work for two cores, for which saves wait, and at most as much
  /// space until the old chunks go.
  static let maximumPageCount = 256 << 10
  /// Bounds what ``PageMoves`` takes, should chunks have few live pages.
  static let maximumChunkCount = 32 << 10

  /// What needs to be made anew.
  enum Stage {
    /// What no optimize has made.
    case new
    /// What one has made, and of which a quarter or more is dead by now.
    case sparse
  }

  /// Ascending.
  private(set) var chunkIDs: [Int64] = []
  /// The slots of each that are named.
  private(set) var liveSlots: [UInt16] = []
  /// Every live page of the chunks, in the order in which to store them.
  private(set) var pages: [PageLocation] = []
  /// How many pages in each nothing names.
  private(set) var deadPageCounts: [UInt8] = []

  /// The live pages of all chunks that need it, whether or not they come into this round.
  private(set) var candidatePageCount: UInt64 = 0

  /// - Parameters:
  ///   - pageLimit: The most pages in the round.
  ///   - excluded: Chunks to leave alone.
  init(
    _ database: Database,
    stage: Stage,
    usage: ChunkUsage,
    pageLimit: Int,
    excluding excluded: Set<Int64>,
    cancellation: CancellationFlag
  ) throws {
    var builder = Builder(
      usage: usage,
      stage: stage,
      pageLimit: min(pageLimit, Self.maximumPageCount),
      excluded: excluded
    )
    candidatePageCount = builder.candidatePageCount
    guard candidatePageCount > 0 else { return }
    try builder.addPages(of: Self.snapshotIDs(database), database, cancellation)
    builder.addPagesThatNoExtentNames()
    pages = builder.pages
    for index in usage.chunkIDs.indices where builder.isChosen[index] {
      chunkIDs.append(usage.chunkIDs[index])
      liveSlots.append(usage.liveSlots(at: index))
      deadPageCounts.append(
        UInt8(clamping: usage.pageCount(at: index) - usage.liveSlots(at: index).nonzeroBitCount)
      )
    }
  }

  /// The newest snapshot of each VM, then the others, the newer first; at the end those that are being
  /// deleted.
  private static func snapshotIDs(_ database: Database) throws -> [Int64] {
    try Int64.fetchAll(
      database,
      sql: """
        SELECT s.id FROM snapshot s
         ORDER BY s.state = 'complete' DESC,
                  s.id = (SELECT max(n.id) FROM snapshot n
                           WHERE n.vm = s.vm AND n.state = 'complete') DESC,
                  s.id DESC
        """
    )
  }

  private struct Builder {
    var usage: ChunkUsage
    var isChosen: [Bool]
    var pages: [PageLocation] = []
    let candidatePageCount: UInt64

    private let isCandidate: [Bool]
    private let pageLimit: Int
    /// The slots of chosen chunks that are in `pages`.
    private var taken: [UInt16]
    private var chosenPageCount = 0
    private var chosenChunkCount = 0
    /// Whether a chunk had no room any more.
    private var isFull = false

    init(usage: ChunkUsage, stage: Stage, pageLimit: Int, excluded: Set<Int64>) {
      self.usage = usage
      self.pageLimit = pageLimit
      isChosen = .init(repeating: false, count: usage.chunkIDs.count)
      taken = .init(repeating: 0, count: usage.chunkIDs.count)
      var candidatePageCount: UInt64 = 0
      isCandidate = usage.chunkIDs.indices.map { index in
        let live = usage.liveSlots(at: index).nonzeroBitCount
        guard live > 0, !excluded.contains(usage.chunkIDs[index]) else { return false }
        switch stage {
        case .new:
          guard !usage.isOptimized[index] else { return false }
        case .sparse:
          guard usage.isOptimized[index], live * 4 <= usage.pageCount(at: index) * 3 else {
            return false
          }
        }
        candidatePageCount += UInt64(live)
        return true
      }
      self.candidatePageCount = candidatePageCount
    }

    mutating func addPages(
      of snapshotIDs: [Int64],
      _ database: Database,
      _ cancellation: CancellationFlag
    ) throws {
      let select = try HotStatement(
        database,
        """
        SELECT chunk_id, first_slot, page_count, first_pfn FROM ram_extent
         WHERE snapshot_id = ? ORDER BY first_pfn
        """
      )
      defer { select.reset() }
      var rowCount = 0
      for snapshotID in snapshotIDs {
        select.reset()
        select.bind(snapshotID, at: 1)
        var nextFreePFN: Int64 = 0
        while try select.step() {
          rowCount += 1
          if rowCount % 65536 == 0 { try cancellation.check() }
          let (slot, count, pfn) = (select.int64(1), select.int64(2), select.int64(3))
          guard (0..<16).contains(slot), (1...16).contains(count), slot + count <= 16 else {
            continue
          }
          // Extents that overlap cannot be moved one by one.
          guard pfn >= nextFreePFN, pfn <= Int64(PFN.max.rawValue) else {
            throw Extent.damaged(firstPFN: pfn)
          }
          nextFreePFN = pfn + count
          guard let index = usage.index(of: select.int64(0)), choose(index) else { continue }
          for slot in Int(slot)..<Int(slot + count) { add(slot, at: index) }
        }
      }
    }

    /// Contents of overlays, and what only damaged extents name.
    mutating func addPagesThatNoExtentNames() {
      for index in usage.chunkIDs.indices where choose(index) {
        guard taken[index] != usage.liveSlots(at: index) else { continue }
        for slot in 0..<16 { add(slot, at: index) }
      }
    }

    /// Whether the chunk is in the round; takes it in while there is room.
    private mutating func choose(_ index: Int) -> Bool {
      if isChosen[index] { return true }
      guard isCandidate[index], !isFull else { return false }
      let live = usage.liveSlots(at: index).nonzeroBitCount
      guard chosenPageCount + live <= pageLimit,
        chosenChunkCount < OptimizePlan.maximumChunkCount
      else {
        isFull = true
        return false
      }
      chosenPageCount += live
      chosenChunkCount += 1
      isChosen[index] = true
      return true
    }

    private mutating func add(_ slot: Int, at index: Int) {
      let bit: UInt16 = 1 << UInt16(slot)
      guard usage.liveSlots(at: index) & bit != 0, taken[index] & bit == 0 else { return }
      taken[index] |= bit
      pages.append(PageLocation(chunkID: usage.chunkIDs[index], slot: slot))
    }
  }
}
