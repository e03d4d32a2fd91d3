import GRDB

extension Store {
  /// A round that took less is the last one: the guest has changed little meanwhile.
  private static let shortRoundSeconds = 0.3
  private static let maximumRoundCount = 4
  /// 8 MiB: of less that has changed, the guest need not be read once more.
  private static let fewPageCount = 2048
  /// 4 MiB, as much as a batch. Fewer bytes of candidates that nothing names are left to gc: to look at all extents
  /// costs more.
  private static let minimumRemovalByteCount: UInt64 = 4 << 20

  /// Stores RAM of a guest that runs, so that little is left to store of it once it is stopped.
  ///
  /// RAM is read in rounds. Each reads all of it and stores what differs from the round before. They end when
  /// little differs, or not less than before.
  ///
  /// - Parameters:
  ///   - vm: The VM that the snapshot will belong to.
  ///   - writerLock: The writer's lock.
  /// - Returns: The candidates, which keep the chunks' lock.
  /// - Throws: ``VMCheckpointError``; nothing is left then, as far as that is possible.
  func storeCandidates(
    _ ram: RunningRAM,
    for request: SaveRequest,
    vm: String,
    writerLock: StoreLock,
    control: OperationControl
  ) throws(VMCheckpointError) -> CandidatePages {
    try requireWritable()
    let chunkLock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: location,
      cancellation: control.cancellation
    )
    func requireLocks() throws(VMCheckpointError) {
      try writerLock.requireInPlace()
      try chunkLock.requireInPlace()
    }
    do throws(VMCheckpointError) {
      return try withConnection(control: control) { database in
        let firstChunkID = try ChunkWriter.nextChunkID(database)
        let transaction = try LongTransaction(database, busy: busy)
        do {
          return try storeRounds(
            ram,
            request,
            vm: vm,
            firstChunkID: firstChunkID,
            chunkLock: chunkLock,
            transaction,
            database,
            control
          )
        } catch {
          ignoreCancellation(database)
          transaction.rollBack()
          let end = (try? ChunkWriter.nextChunkID(database)) ?? firstChunkID
          removeRemains(Array(firstChunkID..<end), database, requireLocks: requireLocks)
          throw error
        }
      }
    } catch {
      chunkLock.release()
      throw error
    }
  }

  private func storeRounds(
    _ ram: RunningRAM,
    _ request: SaveRequest,
    vm: String,
    firstChunkID: Int64,
    chunkLock: StoreLock,
    _ transaction: LongTransaction,
    _ database: Database,
    _ control: OperationControl
  ) throws -> CandidatePages {
    try UnfinishedSnapshots.remove(database, control.cancellation)
    let fingerprinter = try PageFingerprinter(database)
    let clock = StageClock<SaveStage>()
    let none = OverlayDocument(guestOSID: nil, records: [])
    let substitution = UnderlaySubstitution(
      plan: try none.validated(in: ram.layout),
      absent: AbsentPages()
    )
    var parentID = try parent(request.parent, ofVM: vm, database)?.id
    var round = 0
    var differingPageCount = UInt64.max
    while true {
      let seen = try SeenPages(ram.layout, fingerprinter)
      let start = MonotonicClock.nowSeconds
      let hashedBefore = Self.hashedPageCount(clock)
      let begun = try SnapshotRows.beginCandidates(database, vm: vm)
      var operation = try SaveOperation(
        database,
        transaction: transaction,
        source: SaveSource(
          reader: try ram.makeReader(),
          substitution: substitution,
          compression: request.compression
        ),
        snapshotID: begun.id,
        snapshotUUID: begun.uuid,
        parentID: parentID,
        seen: seen,
        phase: "saving the running guest",
        clock: clock,
        control: control
      )
      try operation.runCandidates()
      if round > 0, let parentID {
        try SnapshotRemover.remove([parentID], database, control.cancellation)
      }
      parentID = begun.id
      round += 1
      let before = differingPageCount
      differingPageCount = Self.hashedPageCount(clock) - hashedBefore
      let isShort = MonotonicClock.nowSeconds - start < Self.shortRoundSeconds
      let isLast =
        isShort || round >= Self.maximumRoundCount
        || (round > 1
          && (differingPageCount <= Self.fewPageCount || differingPageCount > before / 2))
      guard isLast else { continue }
      let mapped = try mapRAM(ram, seen, control)
      return CandidatePages(
        snapshotID: begun.id,
        firstChunkID: firstChunkID,
        seen: seen,
        settled: try SettledPages(seen, mapped: mapped, threadCount: control.threadCount),
        chunkLock: chunkLock,
        clock: clock
      )
    }
  }

  /// Maps RAM for the look that the guest will be stopped for, where that makes the look shorter.
  private func mapRAM(
    _ ram: RunningRAM,
    _ seen: SeenPages,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> MappedRAM? {
    guard let reader = try ram.makeReader() as? FileRAMReader,
      let mapped = MappedRAM(reader.opened)
    else { return nil }
    try mapped.touch(
      seen,
      reader,
      threadCount: control.threadCount,
      cancellation: control.cancellation
    )
    // Then pages are read, which a file system that is full does not make fail.
    return mapped.isBroken ? nil : mapped
  }

  /// How many pages were not the parent's.
  private static func hashedPageCount(_ clock: StageClock<SaveStage>) -> UInt64 {
    let digest = clock.times.first { $0.stage == SaveStage.digest.rawValue }
    return Page.count(inByteCount: digest?.byteCount ?? 0)
  }

  /// Removes what only the candidates of a save name, once its snapshot is complete. What cannot be removed
  /// now, and chunks that are too few for it, the next save or gc removes.
  func removeCandidates(
    _ candidates: CandidatePages,
    of snapshotID: Int64,
    _ database: Database,
    requireLocks: () throws -> Void
  ) {
    candidates.areRemoved = true
    guard (try? requireLocks()) != nil,
      (try? SnapshotRemover.remove([candidates.snapshotID], database, CancellationFlag())) != nil,
      let end = try? ChunkWriter.nextChunkID(database),
      let named = try? overlayChunkIDs(of: snapshotID, database),
      let new = try? NewPages(
        of: snapshotID,
        from: candidates.firstChunkID,
        to: end,
        alsoNamed: named,
        database
      ),
      new.unnamedByteCount >= Self.minimumRemovalByteCount
    else { return }
    _ = try? ChunkRemover.remove(
      new.unnamedChunkIDs,
      database,
      control: OperationControl(),
      requireLocks: requireLocks
    )
  }

  private func overlayChunkIDs(of snapshotID: Int64, _ database: Database) throws -> [Int64] {
    try Int64.fetchAll(
      database,
      sql: """
        SELECT contents_chunk_id FROM overlay
         WHERE snapshot_id = ? AND contents_chunk_id IS NOT NULL
        """,
      arguments: [snapshotID]
    )
  }

  /// Removes all that a save has stored before its guest was stopped, when there is to be no snapshot.
  func abandon(_ candidates: CandidatePages, writerLock: StoreLock?) {
    guard !candidates.areRemoved else { return }
    candidates.areRemoved = true
    func requireLocks() throws(VMCheckpointError) {
      try writerLock?.requireInPlace()
      try candidates.chunkLock.requireInPlace()
    }
    try? withConnection(control: OperationControl()) { database in
      let end = try ChunkWriter.nextChunkID(database)
      removeRemains(Array(candidates.firstChunkID..<end), database, requireLocks: requireLocks)
    }
  }
}
