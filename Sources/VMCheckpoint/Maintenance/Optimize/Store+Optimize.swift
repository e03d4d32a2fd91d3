import GRDB
import Glibc

/// What `optimize` did.
public struct OptimizeResult: Sendable, Codable, Hashable {
  /// Chunks that were made anew.
  public var rewrittenChunkCount: UInt64
  /// What was made of them.
  public var newChunkCount: UInt64
  /// The pages in the new chunks.
  public var storedPageCount: UInt64
  /// Pages that were not stored anew, because no snapshot names them.
  public var droppedPageCount: UInt64
  /// Chunks that stay as they were, because they cannot be read, or hold pages that would have come
  /// into one chunk with damaged ones. `verify` says which are damaged.
  public var unreadableChunkCount: UInt64

  /// The compressed bytes of all chunks at the start.
  public var storedByteCountBefore: UInt64
  /// The compressed bytes of all chunks afterwards.
  public var storedByteCountAfter: UInt64
  /// The extents of all snapshots at the start.
  public var extentCountBefore: UInt64
  /// The extents of all snapshots afterwards: fewer are read faster.
  public var extentCountAfter: UInt64
  /// The store file's size at the start.
  public var fileByteCountBefore: UInt64
  /// The store file's size afterwards.
  public var fileByteCountAfter: UInt64

  /// Wall time, waiting for other operations included.
  public var durationSeconds: Double
}

extension Store {
  /// Compresses harder what no optimize has compressed yet, with each VM's newest snapshot in order
  /// of its PFNs. Leaves out pages that no snapshot names, and returns space to the file system.
  ///
  /// Goes in rounds of 1 GiB of pages. Saves wait for a round, restores and verifies for its end;
  /// readers in single transactions wait for nothing but commits. The store needs up to a GiB
  /// of free space on its file system, for a round's new chunks beside the old ones. Where there is
  /// less, rounds are smaller.
  ///
  /// - Throws: ``VMCheckpointError``. What was optimized until then stays so, and the next call
  ///   goes on from there.
  public func optimize(
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> OptimizeResult {
    try requireWritable()
    var operation = OptimizeOperation(self, control: control)
    do {
      return try operation.run()
    } catch {
      guard error.code == .cancelled else { throw error }
      throw VMCheckpointError(
        .cancelled,
        "interrupted; the store is sound, and what was optimized stays so",
        hint: "go on with: vmckpt optimize"
      )
    }
  }
}

/// One `optimize`: rounds, each under the writer's lock.
private struct OptimizeOperation {
  /// How long to wait for the others that come between two rounds.
  private static let patienceSeconds = 600.0

  /// Left free for journals, the page index, and others.
  private static let reservedByteCount: Int64 = 64 << 20
  /// A round of less than 16 MiB is not worth its passes over all extents.
  private static let minimumPageLimit: Int64 = 4096

  private let store: Store
  private let control: OperationControl
  private let startSeconds = MonotonicClock.nowSeconds
  private var stage = OptimizePlan.Stage.new
  /// Whether a killed optimize may have left copies; what this one copies it does not copy again.
  private var looksForCopies = false
  private var unreadable = Set<Int64>()
  /// The dead pages of chunks that the last round did not finish, before it began with them.
  private var deadPageCounts: [Int64: UInt8] = [:]
  private var totalPageCount: UInt64 = 0
  private var donePageCount: UInt64 = 0
  private var result = OptimizeResult(
    rewrittenChunkCount: 0,
    newChunkCount: 0,
    storedPageCount: 0,
    droppedPageCount: 0,
    unreadableChunkCount: 0,
    storedByteCountBefore: 0,
    storedByteCountAfter: 0,
    extentCountBefore: 0,
    extentCountAfter: 0,
    fileByteCountBefore: 0,
    fileByteCountAfter: 0,
    durationSeconds: 0
  )

  init(_ store: Store, control: OperationControl) {
    self.store = store
    self.control = control
  }

  mutating func run() throws(VMCheckpointError) -> OptimizeResult {
    try prepare()
    while try runRound() {
      // A process that waits looks for the lock every 20 ms.
      usleep(50_000)
    }
    try finish()
    result.unreadableChunkCount = UInt64(unreadable.count)
    result.durationSeconds = MonotonicClock.nowSeconds - startSeconds
    return result
  }

  // MARK: Before and after the rounds

  private mutating func prepare() throws(VMCheckpointError) {
    let locks = try GarbageLocks(at: store.location, cancellation: control.cancellation)
    defer { locks.release() }
    var result = result
    looksForCopies = try store.withConnection(control: control) { database in
      let sizes = try Sizes(database)
      result.storedByteCountBefore = sizes.storedByteCount
      result.extentCountBefore = sizes.extentCount
      result.fileByteCountBefore = sizes.fileByteCount
      var collector = GarbageCollector(database, control: control) { try locks.requireInPlace() }
      try collector.removeUnfinishedSnapshots()
      try collector.freeDeadChunks()
      return try Bool.fetchOne(
        database,
        sql: "SELECT EXISTS (SELECT 1 FROM chunk WHERE optimized = 1)"
      ) ?? false
    }
    self.result = result
  }

  private mutating func finish() throws(VMCheckpointError) {
    let lock = try acquire(.writer)
    defer { lock.release() }
    var result = result
    try store.withConnection(control: control) { database in
      var collector = GarbageCollector(database, control: control) { try lock.requireInPlace() }
      try collector.compactIndex()
      try collector.returnSpace()
      let sizes = try Sizes(database)
      result.storedByteCountAfter = sizes.storedByteCount
      result.extentCountAfter = sizes.extentCount
      result.fileByteCountAfter = sizes.fileByteCount
    }
    self.result = result
  }

  private func acquire(
    _ resource: StoreLock.Resource,
    timeoutSeconds: Double? = patienceSeconds
  ) throws(VMCheckpointError) -> StoreLock {
    try StoreLock.acquire(
      resource,
      .exclusive,
      at: store.location,
      timeoutSeconds: timeoutSeconds,
      cancellation: control.cancellation
    )
  }

  // MARK: A round

  private struct CopiedPages {
    var moves: PageMoves
    /// Ascending.
    var newChunkIDs: [Int64]
    /// Whether all pages of the round were copied that can be.
    var isWhole: Bool
    /// By chunk.
    var deadPageCounts: [Int64: UInt8]
  }

  /// - Returns: `false` when there was nothing left to do.
  private mutating func runRound() throws(VMCheckpointError) -> Bool {
    let writerLock = try acquire(.writer)
    defer { writerLock.release() }
    guard let copied = try copyPages(writerLock) else { return false }
    // From here on old chunks are not named any more, and then go: nobody may be about to read them.
    let chunkLock: StoreLock
    do {
      // No longer than a save waits, which this keeps from writing.
      chunkLock = try acquire(.chunks, timeoutSeconds: nil)
    } catch {
      _ = try? store.withConnection(control: OperationControl()) { database in
        try ChunkRemover.remove(copied.newChunkIDs, database, control: OperationControl()) {
          try writerLock.requireInPlace()
        }
      }
      throw error
    }
    defer { chunkLock.release() }
    let control = control
    let (moved, kept, named) = try store.withConnection(control: control) {
      (database) -> ([Int64], Set<Int64>, [Int64]) in
      try writerLock.requireInPlace()
      try chunkLock.requireInPlace()
      var mover = try ExtentMover(database, moves: copied.moves, control: control)
      try mover.run()
      let outcome = mover.moves.outcome
      let named = try ChunkRemover.remove(outcome.movedChunkIDs, database, control: control) {
        try writerLock.requireInPlace()
        try chunkLock.requireInPlace()
      }
      try IndexMerge.mergeRunsOfLikeSize(database, control.cancellation)
      return (outcome.movedChunkIDs, Set(outcome.keptChunkIDs), named)
    }
    result.rewrittenChunkCount += UInt64(moved.count)
    result.droppedPageCount += moved.reduce(0) { $0 + UInt64(copied.deadPageCounts[$1] ?? 0) }
    // A row that cannot be moved names them: the next round would find them again, and each after it.
    unreadable.formUnion(named)
    if copied.isWhole {
      unreadable.formUnion(kept)
      deadPageCounts = [:]
    } else {
      // The next round goes on with them.
      deadPageCounts = copied.deadPageCounts.filter { kept.contains($0.key) }
    }
    return true
  }

  /// Copies the next pages.
  ///
  /// - Returns: `nil` when there are none.
  /// - Throws: What was copied is removed, if possible; else the next gc or optimize does it.
  private mutating func copyPages(
    _ writerLock: StoreLock
  ) throws(VMCheckpointError) -> CopiedPages? {
    let (control, unreadable, startStage) = (control, unreadable, stage)
    let (looksForCopies, donePageCount) = (looksForCopies, donePageCount)
    let (store, location, path) = (store, store.location, store.path)
    var totalPageCount = totalPageCount
    var stage = startStage
    var copied: (plan: OptimizePlan, copier: PageCopier)?
    try store.withConnection(control: control) { database in
      let usage = try ChunkUsage(database, cancellation: control.cancellation)
      func plan(_ stage: OptimizePlan.Stage) throws -> OptimizePlan {
        try OptimizePlan(
          database,
          stage: stage,
          usage: usage,
          pageLimit: Self.pageLimit(database, location: location, path: path),
          excluding: unreadable,
          cancellation: control.cancellation
        )
      }
      var next = try plan(stage)
      if next.pages.isEmpty, stage == .new {
        stage = .sparse
        next = try plan(stage)
      }
      guard !next.pages.isEmpty else { return }
      totalPageCount = max(totalPageCount, donePageCount + next.candidatePageCount)
      var copier = try PageCopier(
        database,
        plan: next,
        usage: usage,
        looksForCopies: looksForCopies && stage == .new,
        control: control
      )
      do {
        var progress = ProgressReporter(
          control,
          phase: "optimizing",
          totalByteCount: totalPageCount << UInt64(Page.shift)
        )
        try copier.copy(next.pages) { count in
          progress.report(
            completedByteCount: (donePageCount + UInt64(count)) << UInt64(Page.shift)
          )
        }
        copied = (next, copier)
      } catch {
        store.ignoreCancellation(database)
        if database.isInsideTransaction { try? database.rollback() }
        _ = try? ChunkRemover.remove(copier.newChunkIDs, database, control: OperationControl()) {
          try writerLock.requireInPlace()
        }
        throw error
      }
    }
    self.stage = stage
    self.totalPageCount = totalPageCount
    guard let copied else { return nil }
    self.donePageCount += UInt64(copied.copier.reachedCount)
    result.newChunkCount += copied.copier.chunkCount
    result.storedPageCount += copied.copier.pageCount
    let deadPageCounts = Dictionary(
      uniqueKeysWithValues: zip(copied.plan.chunkIDs, copied.plan.deadPageCounts)
    ).merging(self.deadPageCounts) { _, before in before }
    return CopiedPages(
      moves: copied.copier.moves,
      newChunkIDs: copied.copier.newChunkIDs,
      isWhole: copied.copier.reachedCount == copied.plan.pages.count,
      deadPageCounts: deadPageCounts
    )
  }

  /// How many pages a round may store, so that it has room even if none of them gets shorter.
  private static func pageLimit(
    _ database: Database,
    location: StoreLocation,
    path: String
  ) throws -> Int {
    var status = statvfs()
    guard statvfs(location.directory, &status) == 0 else { return OptimizePlan.maximumPageCount }
    let free = Int64(clamping: status.f_bavail).multipliedReportingOverflow(
      by: Int64(clamping: status.f_frsize)
    )
    guard !free.overflow else { return OptimizePlan.maximumPageCount }
    func number(_ sql: String) throws -> Int64 { try Int64.fetchOne(database, sql: sql) ?? 0 }
    let reusable = try number(
      "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
    )
    // A small store has small journals.
    let reserved = min(
      reservedByteCount,
      try number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    )
    let minimum = min(minimumPageLimit, try number("SELECT sum(page_count) FROM chunk"))
    let usable = free.partialValue.addingReportingOverflow(reusable)
    guard !usable.overflow else { return OptimizePlan.maximumPageCount }
    let room = (usable.partialValue - reserved) / Int64(Page.byteCount)
    guard room >= minimum else {
      let needed = reserved + minimum * Int64(Page.byteCount)
      throw VMCheckpointError(
        .inputOutput,
        "not enough space to optimize store \(quotedName(path)): it needs at least \(needed) bytes, "
          + "and \(free.partialValue) are free",
        hint: "free some space and try again; vmckpt gc needs less"
      )
    }
    return Int(max(16, min(room, Int64(OptimizePlan.maximumPageCount))))
  }

  /// The sizes that the result gives from before and after.
  private struct Sizes {
    var storedByteCount: UInt64
    var extentCount: UInt64
    var fileByteCount: UInt64

    init(_ database: Database) throws {
      func sum(_ sql: String) throws -> UInt64 {
        UInt64(clamping: try Int64.fetchOne(database, sql: sql) ?? 0)
      }
      storedByteCount = try sum("SELECT sum(stored_bytes) FROM chunk")
      extentCount = try sum("SELECT count(*) FROM ram_extent")
      fileByteCount = try sum(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
      )
    }
  }
}
