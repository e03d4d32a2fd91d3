import GRDB

/// Which slots of which chunks the snapshots name: what gc keeps.
///
/// 12 bytes a chunk, so 15 MiB for 20 million pages.
struct ChunkUsage {
  private var chunks = ChunkIDList()
  private var pageCounts: [UInt8] = []
  private(set) var isOptimized: [Bool] = []
  /// Bit *n*: slot *n* is named.
  private var masks: [UInt16] = []

  /// Ascending.
  var chunkIDs: [Int64] { chunks.ids }

  /// Reads all chunks, and the extents and overlays of snapshots.
  ///
  /// - Parameter countsUnfinished: Whether rows of snapshots that are being deleted count as well.
  ///   They must where chunks are freed, or rows would be left that name chunks which are gone. A
  ///   caller that frees chunks removes the unfinished snapshots first, so that theirs are freed all
  ///   the same.
  init(
    _ database: Database,
    countsUnfinished: Bool = true,
    cancellation: CancellationFlag
  ) throws {
    let select = try HotStatement(
      database,
      "SELECT id, page_count, optimized FROM chunk ORDER BY id"
    )
    defer { select.reset() }
    while try select.step() {
      let chunkID = select.int64(0)
      guard PageLocation.validChunkIDs.contains(chunkID) else {
        throw VMCheckpointError(.corrupt, "chunk \(chunkID) has an impossible number")
      }
      chunks.append(chunkID)
      pageCounts.append(UInt8(clamping: select.int64(1)))
      isOptimized.append(select.int64(2) == 1)
    }
    masks = [UInt16](repeating: 0, count: chunkIDs.count)
    let isCounted = countsUnfinished ? "true" : "s.state = 'complete'"
    try mark(
      database,
      """
      SELECT e.chunk_id, e.first_slot, e.page_count
        FROM snapshot s JOIN ram_extent e ON e.snapshot_id = s.id WHERE \(isCounted)
      """,
      cancellation
    )
    try mark(
      database,
      """
      SELECT o.contents_chunk_id, o.contents_slot, 1
        FROM snapshot s JOIN overlay o ON o.snapshot_id = s.id
       WHERE \(isCounted) AND o.contents_chunk_id IS NOT NULL
      """,
      cancellation
    )
  }

  private mutating func mark(
    _ database: Database,
    _ sql: String,
    _ cancellation: CancellationFlag
  ) throws {
    let uses = try HotStatement(database, sql)
    defer { uses.reset() }
    var rowCount = 0
    while try uses.step() {
      rowCount += 1
      if rowCount % 65536 == 0 { try cancellation.check() }
      guard let index = index(of: uses.int64(0)) else { continue }
      let (slot, count) = (uses.int64(1), uses.int64(2))
      // Which slots a damaged row means is not known: all, so that none is freed.
      guard (0..<16).contains(slot), (1...16).contains(count), slot + count <= 16 else {
        masks[index] = .max
        continue
      }
      masks[index] |= UInt16(truncatingIfNeeded: ((1 << count) - 1) << slot)
    }
  }

  /// Where in ``chunkIDs`` a chunk is. Quick when it is the one that was asked for last, or the next.
  mutating func index(of chunkID: Int64) -> Int? { chunks.index(of: chunkID) }

  /// The slots of a chunk that are named and that it has.
  func liveSlots(at index: Int) -> UInt16 {
    masks[index] & UInt16(truncatingIfNeeded: (1 << Int(min(pageCounts[index], 16))) - 1)
  }

  func pageCount(at index: Int) -> Int { Int(pageCounts[index]) }

  /// Chunks that nothing names.
  var dead: [Int64] { chunkIDs.indices.filter { masks[$0] == 0 }.map { chunkIDs[$0] } }

  /// Chunks of which less than half is named, with the slots that are.
  var mostlyDead: [(chunkID: Int64, liveSlots: UInt16)] {
    chunkIDs.indices.compactMap { index in
      let live = masks[index].nonzeroBitCount
      guard live > 0, live * 2 < Int(pageCounts[index]) else { return nil }
      return (chunkIDs[index], masks[index])
    }
  }
}
