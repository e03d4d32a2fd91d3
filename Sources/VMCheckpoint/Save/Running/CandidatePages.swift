import GRDB

/// What a save has stored of a guest's RAM while the guest ran: candidates for the snapshot's pages.
///
/// They are chunks like any other, and the extents of an unfinished snapshot, which readers do not see. Pages
/// may be torn, or be of different moments. The snapshot names one only where the guest's RAM held the very same
/// bytes when it was stopped.
final class CandidatePages {
  /// The unfinished snapshot.
  let snapshotID: Int64
  /// The first chunk that was made for it; later ones are this save's as well.
  let firstChunkID: Int64
  /// What its extents name.
  let seen: SeenPages
  /// Where the guest's RAM is compared with ``seen``.
  let settled: SettledPages
  /// Keeps the chunks.
  let chunkLock: StoreLock
  let clock: StageClock<SaveStage>
  /// Whether nothing of them is left that is only theirs.
  var areRemoved = false

  init(
    snapshotID: Int64,
    firstChunkID: Int64,
    seen: SeenPages,
    settled: SettledPages,
    chunkLock: StoreLock,
    clock: StageClock<SaveStage>
  ) {
    self.snapshotID = snapshotID
    self.firstChunkID = firstChunkID
    self.seen = seen
    self.settled = settled
    self.chunkLock = chunkLock
    self.clock = clock
  }

  deinit { chunkLock.release() }
}

/// The chunks that a save with candidates has made, and which of their pages its snapshot names.
struct NewPages {
  /// Pages that the snapshot names, each content once.
  var pageCount: UInt64
  /// Of the chunks that have them.
  var storedByteCount: UInt64
  /// The chunks that the snapshot does not name, ascending.
  var unnamedChunkIDs: [Int64] = []
  var unnamedByteCount: UInt64 = 0

  init(pageCount: UInt64, storedByteCount: UInt64) {
    self.pageCount = pageCount
    self.storedByteCount = storedByteCount
  }

  /// - Parameters:
  ///   - snapshotID: The snapshot, whose extents are all there.
  ///   - firstID: The first chunk that was made.
  ///   - endID: The number that the next chunk will get.
  ///   - alsoNamed: Chunks that something else than an extent names.
  init(
    of snapshotID: Int64,
    from firstID: Int64,
    to endID: Int64,
    alsoNamed: [Int64],
    _ database: Database
  ) throws {
    // 2 bytes for 64 KiB of new pages.
    var slots = [UInt16](repeating: 0, count: Int(endID - firstID))
    let extents = try HotStatement(
      database,
      """
      SELECT chunk_id, first_slot, page_count FROM ram_extent
       WHERE snapshot_id = ?1 AND chunk_id >= ?2
      """
    )
    extents.bind(snapshotID, at: 1)
    extents.bind(firstID, at: 2)
    while try extents.step() {
      let (id, first, count) = (extents.int64(0), extents.int64(1), extents.int64(2))
      guard id < endID else { continue }
      slots[Int(id - firstID)] |= UInt16(truncatingIfNeeded: ((1 << count) - 1) << first)
    }
    extents.reset()
    var named = Set(alsoNamed)
    (pageCount, storedByteCount) = (0, 0)
    let chunks = try HotStatement(
      database,
      "SELECT id, stored_bytes FROM chunk WHERE id >= ?1 ORDER BY id"
    )
    chunks.bind(firstID, at: 1)
    while try chunks.step() {
      let (id, byteCount) = (chunks.int64(0), UInt64(chunks.int64(1)))
      let mask = id < endID ? slots[Int(id - firstID)] : 0
      pageCount += UInt64(mask.nonzeroBitCount)
      if mask != 0 || named.remove(id) != nil {
        storedByteCount += byteCount
      } else {
        unnamedChunkIDs.append(id)
        unnamedByteCount += byteCount
      }
    }
    chunks.reset()
  }
}
