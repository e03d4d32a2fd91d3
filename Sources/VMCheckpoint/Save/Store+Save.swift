import GRDB

extension Store {
  /// Saves a snapshot into the store at `path`, creating the store when there is none. What can be
  /// checked without the store is checked first, so that a bad request creates nothing.
  ///
  /// - Throws: As ``openOrCreate(at:cancellation:)`` and ``save(_:control:)``.
  public static func save(
    _ request: SaveRequest,
    toStoreAt path: String,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> SaveResult {
    if let source = request.input.source.path {
      try requireNotStore(source: source, storePath: path)
    }
    let turn = SaveTurn(storePath: path, for: request, control: control)
    return try PreparedSave.with(request, turn: turn, control: control)
  }

  /// Checks that the file at `source` is neither the store at `storePath` nor belongs to it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  package static func requireNotStore(
    source: String,
    storePath: String
  ) throws(VMCheckpointError) {
    guard try StoreLocation(storePath).owns(source) else { return }
    throw VMCheckpointError(
      .invalidArgument,
      "\(quotedName(source)) is the store or belongs to it, and is not a guest's RAM",
      hint: "give the guest's RAM as the source"
    )
  }

  /// Checks that the file at `target`, which is to be written, is neither the store at `storePath` nor belongs to
  /// it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate`.
  package static func requireNotStore(
    target: String,
    storePath: String
  ) throws(VMCheckpointError) {
    guard try StoreLocation(storePath).owns(target) else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "cannot create \(quotedName(target)): it belongs to the store",
      hint: "give another path"
    )
  }

  /// Saves a snapshot: all of the guest's RAM, its overlays and its device state.
  ///
  /// Waits for another save or a gc of the same store to end. The VM must be paused, or the RAM
  /// file must be a copy: RAM is read once, page by page.
  ///
  /// - Throws: ``VMCheckpointError``. The store then does not hold a snapshot of this name, and the
  ///   pages written so far are removed. If that is not possible either, they are left for
  ///   ``collectGarbage``.
  public func save(
    _ request: SaveRequest,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> SaveResult {
    let turn = SaveTurn(at: self, for: request, control: control)
    return try PreparedSave.with(request, turn: turn, control: control)
  }

  /// Does and checks what of a save needs no source. The caller has the writer's lock.
  func prepare(for request: SaveRequest, control: OperationControl) throws(VMCheckpointError) {
    try withConnection(control: control) { database in
      try UnfinishedSnapshots.remove(database, control.cancellation)
      if let name = request.name { try requireUnused(name, database) }
      if case .snapshot(let reference) = request.parent {
        _ = try SnapshotCatalog.resolve(reference, in: database)
      }
    }
  }

  /// - Parameters:
  ///   - candidates: What was stored of RAM before; they go with the save, however it ends.
  ///   - writerLock: The writer's lock if the caller has it.
  func save(
    _ prepared: PreparedSave,
    candidates: CandidatePages? = nil,
    writerLock: StoreLock? = nil,
    control: OperationControl
  ) throws(VMCheckpointError) -> SaveResult {
    let start = MonotonicClock.nowSeconds
    try requireWritable()
    try location.requireNotPlanted()
    for warning in location.secrecyWarnings { control.onWarning?(warning) }
    var writerLock = writerLock
    if writerLock == nil {
      writerLock = try StoreLock.acquire(
        .writer,
        .exclusive,
        at: location,
        cancellation: control.cancellation
      )
    }
    let chunkLock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: location,
      cancellation: control.cancellation
    )
    defer {
      chunkLock.release()
      writerLock?.release()
    }
    func requireLocks() throws(VMCheckpointError) {
      try writerLock?.requireInPlace()
      try chunkLock.requireInPlace()
    }
    return try withConnection(control: control) { database in
      // With candidates that was done before them; and they are unfinished.
      if candidates == nil { try UnfinishedSnapshots.remove(database, control.cancellation) }
      let transaction = try LongTransaction(database, busy: busy)
      let begun = try begin(prepared, database, transaction)
      let clock = candidates?.clock ?? StageClock<SaveStage>()
      var operation: SaveOperation?
      var totals: SaveOperation.Totals?
      do {
        operation = try SaveOperation(
          database,
          transaction: transaction,
          source: prepared.saveSource,
          snapshotID: begun.id,
          snapshotUUID: begun.uuid,
          parentID: candidates?.snapshotID ?? begun.parent?.id,
          clock: clock,
          control: control
        )
        totals = try operation?.run(prepared, candidates: candidates)
        try control.cancellation.check()
        try prepared.guest.checkBeforeCompletion?()
        try requireLocks()
        try clock.measure(.sync, byteCount: totals?.uncommittedByteCount ?? 0) {
          try transaction.commit()
        }
      } catch {
        ignoreCancellation(database)
        transaction.rollBack()
        guard totals != nil, isComplete(begun, database) else {
          // Those of the candidates come before, without a gap.
          let newIDs = operation?.newChunkIDs ?? []
          let first = candidates?.firstChunkID ?? newIDs.first ?? 0
          let next = try? ChunkWriter.nextChunkID(database)
          let end = newIDs.last.map { $0 + 1 } ?? next ?? first
          candidates?.areRemoved = true
          removeRemains(
            candidates == nil ? newIDs : Array(first..<end),
            database,
            requireLocks: requireLocks
          )
          // Whatever failed then, that is why.
          if !control.cancellation.isCancelled { try requireLocks() }
          throw error
        }
        makeLast(database, control)
      }
      if let candidates {
        removeCandidates(candidates, of: begun.id, database, requireLocks: requireLocks)
      }
      mergeIndex(database, control)
      let cautions = SaveCautions(
        request: prepared.request,
        parent: begun.parent,
        layout: totals!.layout,
        storedPageCount: totals!.tally.pageCount,
        newPageCount: totals!.newPageCount
      )
      for line in cautions.lines { control.onWarning?(line) }
      StoreReserve(location).fill()
      return result(of: begun, prepared, totals!, clock, startSeconds: start)
    }
  }

  private func result(
    of begun: Begun,
    _ prepared: PreparedSave,
    _ totals: SaveOperation.Totals,
    _ clock: StageClock<SaveStage>,
    startSeconds: Double
  ) -> SaveResult {
    SaveResult(
      name: begun.name,
      uuid: begun.uuid,
      vm: prepared.vm,
      parent: begun.parent?.name,
      ramByteCount: totals.layout.byteCount,
      storedPageCount: totals.tally.pageCount,
      absentPageCount: prepared.guest.absent.pageCount,
      newPageCount: totals.newPageCount,
      newStoredByteCount: totals.newStoredByteCount,
      overlayCount: totals.plan.stacks.reduce(0) { $0 + $1.overlays.count },
      deviceStateCount: prepared.guest.deviceStates.count,
      compression: prepared.request.compression,
      digest: hexadecimal(totals.digest),
      durationSeconds: MonotonicClock.nowSeconds - startSeconds,
      stages: clock.times
    )
  }

  /// Whether the snapshot is complete in the store, whatever the commit that made it so has returned.
  /// The commit counts once SQLite has given up the journal; SQLite still reports an error if it
  /// cannot sync that.
  private func isComplete(_ begun: Begun, _ database: Database) -> Bool {
    let found = try? Bool.fetchOne(
      database,
      sql: """
        SELECT EXISTS (SELECT 1 FROM snapshot WHERE id = ? AND uuid = ? AND state = 'complete')
        """,
      arguments: [begun.id, begun.uuid]
    )
    return found ?? false
  }

  /// Sees to it that a snapshot whose commit returned an error, but counts, outlives a power failure
  /// too: by one more commit, which syncs the same files. Where that fails as well, a warning says so.
  func makeLast(_ database: Database, _ control: OperationControl) {
    do {
      try database.inTransaction(.immediate) {
        // A row that an UPDATE leaves as it was is not written, and a commit of nothing syncs nothing. This one
        // is written whatever it was.
        try database.execute(sql: "PRAGMA application_id = \(StoreFormat.applicationID)")
        return .commit
      }
    } catch {
      let cause = VMCheckpointError(translating: error, storePath: path)
      control.onWarning?(
        "the snapshot is saved, but a power failure may undo it, because the disk reported an error: "
          + cause.message
      )
    }
  }

  /// The snapshot is complete by now. A merge that fails loses nothing: a later save does it.
  private func mergeIndex(_ database: Database, _ control: OperationControl) {
    do {
      try IndexMerge.mergeRunsOfLikeSize(database, control.cancellation)
    } catch {
      control.onWarning?(
        "the snapshot is saved, but the page index could not be tidied up: \(error)"
      )
    }
  }

  private struct Begun {
    var id: Int64
    var uuid: String
    var name: String
    var parent: SnapshotRow?
  }

  /// Inserts the snapshot's row, in a transaction that stays open: a save that fits into one is synced once.
  private func begin(
    _ prepared: PreparedSave,
    _ database: Database,
    _ transaction: LongTransaction
  ) throws -> Begun {
    try transaction.begin()
    do {
      let parent = try parent(prepared.request.parent, ofVM: prepared.vm, database)
      let name = try unusedName(prepared, database)
      let beginning = SnapshotRows.Beginning(
        uuid: UniqueID.make(),
        name: name,
        vm: prepared.vm,
        parentID: parent?.id,
        startedAt: UTCTime.now,
        source: prepared.names.description,
        producer: VMCheckpointVersion.producer,
        // It is known for a stream only at its end; one page stands for it until then.
        ramByteCount: UInt64(Page.byteCount),
        tags: prepared.request.tags
      )
      let rows = try SnapshotRows.begin(database, beginning)
      return Begun(id: rows.snapshotID, uuid: beginning.uuid, name: name, parent: parent)
    } catch {
      transaction.rollBack()
      throw error
    }
  }

  /// The snapshot that `choice` means for a save of `vm`.
  func parent(
    _ choice: ParentChoice,
    ofVM vm: String,
    _ database: Database
  ) throws -> SnapshotRow? {
    switch choice {
    case .none: nil
    case .newestOfSameVM: try SnapshotCatalog.newest(ofVM: vm, in: database)
    case .snapshot(let reference): try SnapshotCatalog.resolve(reference, in: database)
    }
  }

  private func requireUnused(_ name: String, _ database: Database) throws {
    guard try SnapshotRows.isUsed(name, database) else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "there is a snapshot \(quotedName(name)) already",
      hint: "choose another --name, or delete it first"
    )
  }

  private func unusedName(_ prepared: PreparedSave, _ database: Database) throws -> String {
    if let name = prepared.name {
      try requireUnused(name, database)
      return name
    }
    let name = prepared.defaultName()
    guard try SnapshotRows.isUsed(name, database) else { return name }
    // Saves within one second.
    var number = 2
    while try SnapshotRows.isUsed("\(name)-\(number)", database) { number += 1 }
    return "\(name)-\(number)"
  }

  /// Removes what a failed save or copy has written. What cannot be removed now, gc removes later.
  ///
  /// - Parameters:
  ///   - chunkIDs: The chunks that it has made, ascending.
  ///   - requireLocks: Throws when its locks do not keep others out any more.
  func removeRemains(
    _ chunkIDs: [Int64],
    _ database: Database,
    requireLocks: () throws -> Void
  ) {
    // With another writer about, any row that is not complete may be its.
    guard (try? requireLocks()) != nil else { return }
    // Chunks go only when no row names them any more.
    guard (try? UnfinishedSnapshots.remove(database, CancellationFlag())) != nil else { return }
    try? LongTransaction.cutRemains(database)
    _ = try? ChunkRemover.remove(
      chunkIDs,
      database,
      control: OperationControl(),
      requireLocks: requireLocks
    )
  }
}
