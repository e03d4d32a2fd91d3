/// Where the pages of some chunks are stored as well by now: what extents and overlays are pointed to.
///
/// 136 bytes a chunk.
struct PageMoves {
  private var chunks: ChunkIDList
  private let liveSlots: [UInt16]
  /// Packed locations, 16 for each chunk; 0 where there is none.
  private var targets: [UInt64]
  /// Chunks that must stay, whatever was moved.
  private var kept = Set<Int64>()

  init(of plan: OptimizePlan) {
    chunks = ChunkIDList(plan.chunkIDs)
    liveSlots = plan.liveSlots
    targets = .init(repeating: 0, count: plan.chunkIDs.count * ChunkFormat.pageCapacity)
  }

  /// Whether the chunk is one of those whose pages move.
  mutating func contains(_ chunkID: Int64) -> Bool { chunks.index(of: chunkID) != nil }

  /// Where the page at `location` is as well, if it has moved.
  mutating func target(of location: PageLocation) -> PageLocation? {
    guard let index = chunks.index(of: location.chunkID) else { return nil }
    let target = targets[index * ChunkFormat.pageCapacity + location.slot]
    return target == 0 ? nil : PageLocation(packed: target)
  }

  mutating func set(_ target: PageLocation?, for location: PageLocation) {
    guard let index = chunks.index(of: location.chunkID) else { return }
    targets[index * ChunkFormat.pageCapacity + location.slot] = target?.packed ?? 0
  }

  /// Turns provisional numbers of chunks into theirs, and forgets moves into chunks that have none: they
  /// were not written after all.
  mutating func settleTargets(_ numbers: ChunkNumbers) {
    for index in targets.indices where targets[index] != 0 {
      let location = PageLocation(packed: targets[index])
      targets[index] = numbers.location(of: location)?.packed ?? 0
    }
  }

  /// Makes the chunk stay: a row that cannot be changed names it.
  mutating func keep(_ chunkID: Int64) { kept.insert(chunkID) }

  /// The chunks of which every live page has moved, and those that stay.
  var outcome: (movedChunkIDs: [Int64], keptChunkIDs: [Int64]) {
    var (moved, stay): ([Int64], [Int64]) = ([], [])
    for (index, chunkID) in chunks.ids.enumerated() {
      let hasMoved = (0..<ChunkFormat.pageCapacity).allSatisfy { slot in
        liveSlots[index] & (1 << UInt16(slot)) == 0
          || targets[index * ChunkFormat.pageCapacity + slot] != 0
      }
      if hasMoved, !kept.contains(chunkID) { moved.append(chunkID) } else { stay.append(chunkID) }
    }
    return (moved, stay)
  }
}
