import GRDB

/// What a copy of a snapshot into another store did.
public struct CopyResult: Sendable, Hashable {
  /// The snapshot's name in the other store.
  public var name: String
  /// The same in every store.
  public var uuid: String
  /// The VM that it is of.
  public var vm: String
  /// Whether the other store had the snapshot before.
  public var wasThere: Bool
  /// Chunks that went over as they are.
  public var wholeChunkCount: UInt64
  /// Distinct pages of the snapshot that the other store did not have.
  public var copiedPageCount: UInt64
  /// What these take there.
  public var storedByteCount: UInt64
  /// Distinct pages of the snapshot that the other store had.
  public var reusedPageCount: UInt64
  /// Wall time.
  public var durationSeconds: Double
}

extension Store {
  /// Copies snapshots into another store, which is made with mode 0600 where there is none. Parents come first; one that is
  /// there already, by its UUID, is passed over.
  ///
  /// This store may be read-only. Its chunks' lock is held shared: saves into it go on, and gc waits. Waits for another
  /// save or gc of the other store to end. Pages that are in a remote only come here first.
  ///
  /// - Parameters:
  ///   - references: The snapshots.
  ///   - name: What the only one is called there; `nil`: as here.
  ///   - path: The other store.
  /// - Returns: What was done with each, parents first.
  /// - Throws: ``VMCheckpointError``: `notFound`; `cannotCreate` when another snapshot has the name there, or the path
  ///   is this store's; `corrupt` when a snapshot is damaged; `locked`; `cancelled`. Snapshots before it are copied, and
  ///   nothing is left of it.
  public func copy(
    _ references: [SnapshotReference],
    as name: String? = nil,
    toStoreAt path: String,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> [CopyResult] {
    try Self.requireNotStore(target: path, storePath: self.path)
    // Before anything is made: who is to be copied, and whether all of it can be read.
    var wanted = try read { database in
      try references.map { try SnapshotCatalog.resolve($0, in: database) }
    }
    wanted.sort { $0.id < $1.id }
    var seen = Set<String>()
    wanted.removeAll { !seen.insert($0.uuid).inserted }
    guard name == nil || wanted.count == 1 else {
      throw VMCheckpointError(
        .invalidArgument,
        "one name cannot be that of \(wanted.count) snapshots"
      )
    }
    let isThere = NewStore.place(try StoreLocation(path)) == .taken
    let present =
      try isThere ? Store.open(at: path, cancellation: control.cancellation).uuids(seen) : []
    for snapshot in wanted where !present.contains(snapshot.uuid) {
      try bringMissingPages(of: SnapshotReference(snapshot.uuid), control: control)
    }

    let other = try Store.openOrCreate(at: path, cancellation: control.cancellation)
    try other.requireWritable()
    try other.location.requireNotPlanted()
    for warning in other.location.secrecyWarnings { control.onWarning?(warning) }
    // The other store's locks first: who has this one's waits for nobody then.
    let writerLock = try StoreLock.acquire(
      .writer,
      .exclusive,
      at: other.location,
      cancellation: control.cancellation
    )
    let chunkLock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: other.location,
      cancellation: control.cancellation
    )
    defer {
      chunkLock.release()
      writerLock.release()
    }
    return try withSharedChunks(control: control) { source in
      var results: [CopyResult] = []
      for snapshot in wanted {
        let start = MonotonicClock.nowSeconds
        var result = try other.withConnection(control: control) { database in
          try other.take(snapshot, of: source, at: self.path, as: name, database, control) {
            try writerLock.requireInPlace()
            try chunkLock.requireInPlace()
          }
        }
        result.durationSeconds = MonotonicClock.nowSeconds - start
        results.append(result)
      }
      StoreReserve(other.location).fill()
      return results
    }
  }

  /// Which of these snapshots the store has.
  private func uuids(_ wanted: Set<String>) throws(VMCheckpointError) -> Set<String> {
    try read { database in
      try wanted.filter { try ImportedSnapshot.snapshot(uuid: $0, database) != nil }
    }
  }

  private func take(
    _ snapshot: SnapshotRow,
    of source: Database,
    at sourcePath: String,
    as name: String?,
    _ database: Database,
    _ control: OperationControl,
    requireLocks: () throws -> Void
  ) throws -> CopyResult {
    try UnfinishedSnapshots.remove(database, control.cancellation)
    if let present = try ImportedSnapshot.snapshot(uuid: snapshot.uuid, database) {
      return CopyResult(present, CopyOperation.Totals(), wasThere: true)
    }
    let name = name ?? snapshot.name
    try ImportedSnapshot.requireUnused(name, database)
    var operation: CopyOperation?
    do {
      operation = try CopyOperation(
        from: source,
        at: sourcePath,
        to: database,
        snapshot,
        name: name,
        control: control
      )
      let copied = try operation!.run(requireLocks: requireLocks)
      return CopyResult(copied, operation!.totals, wasThere: false)
    } catch {
      ignoreCancellation(database)
      if database.isInsideTransaction { try? database.rollback() }
      // A commit may count although it returned an error: as for a save.
      if let operation,
        let copied = try? ImportedSnapshot.snapshot(uuid: snapshot.uuid, database)
      {
        makeLast(database, control)
        return CopyResult(copied, operation.totals, wasThere: false)
      }
      removeRemains(operation?.newChunkIDs ?? [], database, requireLocks: requireLocks)
      throw error
    }
  }
}

extension CopyResult {
  fileprivate init(_ snapshot: SnapshotRow, _ totals: CopyOperation.Totals, wasThere: Bool) {
    self.init(
      name: snapshot.name,
      uuid: snapshot.uuid,
      vm: snapshot.vm,
      wasThere: wasThere,
      wholeChunkCount: totals.wholeChunkCount,
      copiedPageCount: totals.copiedPageCount,
      storedByteCount: totals.storedByteCount,
      reusedPageCount: totals.reusedPageCount,
      durationSeconds: 0
    )
  }
}
