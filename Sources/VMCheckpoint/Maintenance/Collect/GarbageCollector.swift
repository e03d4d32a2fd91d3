import Algorithms
import GRDB

/// Frees what no snapshot names. Every step is a series of short transactions after each of which
/// the store is sound, so that it can end, or be killed, at any moment.
struct GarbageCollector {
  /// Database pages returned to the file system in one transaction: 8 MiB.
  private static let vacuumStepPageCount = 2048

  private let database: Database
  private let control: OperationControl
  private let requireLocks: () throws -> Void
  private var result: CollectResult
  /// Whether the page index has stale entries because of this collection.
  private var hasDeletedChunks = false

  /// - Parameters:
  ///   - dryRun: Change nothing.
  ///   - requireLocks: Throws when the locks that the caller has taken do not keep others out any more.
  init(
    _ database: Database,
    control: OperationControl,
    dryRun: Bool = false,
    requireLocks: @escaping () throws -> Void
  ) {
    self.database = database
    self.control = control
    self.requireLocks = requireLocks
    result = CollectResult(
      dryRun: dryRun,
      unfinishedSnapshotCount: 0,
      freedChunkCount: 0,
      freedPageCount: 0,
      freedStoredByteCount: 0,
      repackedChunkCount: 0,
      repackedStoredByteCount: 0,
      fileByteCountBefore: 0,
      fileByteCountAfter: 0
    )
    result.fileByteCountBefore = (try? fileByteCount()) ?? 0
  }

  mutating func removeUnfinishedSnapshots() throws {
    result.unfinishedSnapshotCount =
      result.dryRun
      ? UInt64(try UnfinishedSnapshots.ids(database).count)
      : try UnfinishedSnapshots.remove(database, control.cancellation)
  }

  /// Deletes chunks that nothing names; in a dry run counts them. Unfinished snapshots must have been
  /// removed before: what they name stays.
  mutating func freeDeadChunks() throws {
    let usage = try ChunkUsage(
      database,
      countsUnfinished: !result.dryRun,
      cancellation: control.cancellation
    )
    let dead = usage.dead
    try count(dead)
    guard !result.dryRun else {
      result.repackedChunkCount = UInt64(usage.mostlyDead.count)
      return
    }
    try ChunkRemover.remove(dead, database, control: control, requireLocks: requireLocks)
    hasDeletedChunks = hasDeletedChunks || !dead.isEmpty
  }

  /// Does what needs new space in the file before it frees any: ``repack()`` and ``compactIndex()``; and then
  /// ``returnSpace()``. A full disk may have no room for the first two, and not before the third; then they are left to the
  /// next collection, with a warning.
  mutating func tidyUp() throws {
    for isLast in [false, true] {
      do {
        try repack()
        try compactIndex()
        return try returnSpace()
      } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL {
        try PageIndex.removeUnfinishedRuns(database, control.cancellation)
        try returnSpace()
        if isLast {
          control.onWarning?(
            "the disk is too full to pack the rest more tightly; free some space and run vmckpt gc once more"
          )
        }
      }
    }
  }

  /// Packs the live pages of chunks that are mostly dead into new chunks.
  mutating func repack() throws {
    guard !result.dryRun else { return }
    try requireLocks()
    let usage = try ChunkUsage(database, cancellation: control.cancellation)
    var repacker = try ChunkRepacker(database, control: control, requireLocks: requireLocks)
    defer {
      result.repackedChunkCount += UInt64(repacker.repackedChunkIDs.count)
      result.repackedStoredByteCount += repacker.freedStoredByteCount
      hasDeletedChunks = hasDeletedChunks || !repacker.repackedChunkIDs.isEmpty
    }
    try repacker.repack(usage.mostlyDead)
  }

  /// Drops the page index's entries for chunks that are gone, which deletes leave behind as well.
  func compactIndex() throws {
    guard !result.dryRun else { return }
    let entryCount = try IndexRun.fetchActive(database).reduce(0) { $0 + $1.entryCount }
    let pageCount = try UInt64.fetchOne(database, sql: "SELECT sum(page_count) FROM chunk") ?? 0
    guard entryCount != pageCount || hasDeletedChunks else { return }
    let chunkIDs = try Int64.fetchAll(database, sql: "SELECT id FROM chunk ORDER BY id")
    try IndexMerge.compact(database, control.cancellation) { location in
      let index = chunkIDs.partitioningIndex { $0 >= location.chunkID }
      return index < chunkIDs.count && chunkIDs[index] == location.chunkID
    }
  }

  /// Moves the file's last pages into free ones and cuts the file, in steps.
  mutating func returnSpace() throws {
    guard !result.dryRun else { return }
    try LongTransaction.cutRemains(database)
    var free = try Int64.fetchOne(database, sql: "PRAGMA freelist_count") ?? 0
    var batch = SpaceBoundedBatch(count: Self.vacuumStepPageCount)
    while free > 0 {
      try control.cancellation.check()
      try batch.run { try database.execute(sql: "PRAGMA incremental_vacuum(\($0))") }
      let left = try Int64.fetchOne(database, sql: "PRAGMA freelist_count") ?? 0
      // A store made without auto_vacuum cannot shrink.
      guard left < free else { return }
      free = left
    }
  }

  func finish() throws -> CollectResult {
    var result = result
    result.fileByteCountAfter = try fileByteCount()
    if result.dryRun {
      let free = UInt64(
        clamping: try Int64.fetchOne(
          database,
          sql: "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
        ) ?? 0
      )
      // About: chunks do not fill the pages that they take.
      let (freed, overflows) = free.addingReportingOverflow(result.freedStoredByteCount)
      result.fileByteCountAfter -= overflows ? 0 : min(freed, result.fileByteCountAfter)
    }
    return result
  }

  private mutating func count(_ dead: [Int64]) throws {
    let select = try HotStatement(
      database,
      "SELECT page_count, stored_bytes FROM chunk WHERE id = ?"
    )
    for id in dead {
      select.bind(id, at: 1)
      if try select.step() {
        result.freedChunkCount += 1
        // The numbers in a damaged row may not fit; they are only reported.
        result.freedPageCount &+= UInt64(clamping: select.int64(0))
        result.freedStoredByteCount &+= UInt64(clamping: select.int64(1))
      }
      select.reset()
    }
  }

  private func fileByteCount() throws -> UInt64 {
    UInt64(
      clamping: try Int64.fetchOne(
        database,
        sql: "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
      ) ?? 0
    )
  }
}
