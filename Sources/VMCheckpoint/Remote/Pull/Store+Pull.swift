import GRDB

/// What a fetch or a pull did.
public struct PullResult: Sendable, Hashable {
  /// The snapshot's name in this store.
  public var name: String
  /// The same in every store.
  public var uuid: String
  /// The VM that it is of.
  public var vm: String
  /// The remote's name in this store.
  public var remote: String
  /// Whether the store had the snapshot, with all data that was asked for.
  public var wasThere: Bool
  /// Whether a working set came for a snapshot that was here before.
  public var gotWorkingSet: Bool
  /// Chunks whose data came.
  public var chunkCount: UInt64
  /// Pages in them.
  public var pageCount: UInt64
  /// Of all that came.
  public var receivedByteCount: UInt64
  /// Chunks of the snapshot whose data is not here.
  public var missingChunkCount: UInt64
  /// Requests that read.
  public var getRequestCount: Int
  /// Wall time.
  public var durationSeconds: Double
}

extension Store {
  /// The snapshots of a remote.
  ///
  /// - Throws: As ``RemoteTransport``. Manifests that cannot be read are warned about.
  package func remoteSnapshots(
    _ remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> [RemoteCatalog.Entry] {
    let link = try RemoteLink(transport, uuid: remote.uuid)
    return try RemoteCatalog(link, control: control).entries()
  }

  /// Makes rows of this store of a remote's snapshots, and brings their pages where that is asked for.
  ///
  /// Waits for another save or gc of the same store to end.
  ///
  /// - Parameters:
  ///   - references: Names, beginnings of UUIDs, or `latest`; none: all.
  ///   - name: How the snapshot is called here; `nil`: as there.
  ///   - withData: Whether all pages are brought (a pull); else facts alone (a fetch).
  /// - Throws: ``VMCheckpointError``: `notFound`; `cannotCreate` when another snapshot has the name here; `corrupt` when
  ///   the remote's data is damaged; and as ``RemoteTransport``. What came is kept.
  package func pull(
    _ references: [String],
    as name: String? = nil,
    from remote: RemoteRow,
    _ transport: any RemoteTransport,
    withData: Bool,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> [PullResult] {
    try requireWritable()
    try location.requireNotPlanted()
    let link = try RemoteLink(transport, uuid: remote.uuid)
    let catalog = RemoteCatalog(link, control: control)
    var wanted = references.isEmpty ? try catalog.entries() : []
    // Snapshots of which only the facts are here, and that the remote has no manifest of any more.
    var deleted: [SnapshotRow] = []
    for reference in references {
      do throws(VMCheckpointError) {
        wanted.append(try catalog.entry(reference))
      } catch {
        guard error.code == .notFound, withData, name == nil,
          let snapshot = try incompleteSnapshot(reference, remote, control)
        else { throw error }
        // The remote may have it under another name.
        do throws(VMCheckpointError) {
          wanted.append(try catalog.entry(snapshot.uuid))
        } catch {
          guard error.code == .notFound else { throw error }
          deleted.append(snapshot)
        }
      }
    }
    guard name == nil || wanted.count == 1 else {
      throw VMCheckpointError(
        .invalidArgument,
        "one name cannot be that of \(wanted.count) snapshots"
      )
    }
    let writerLock = try StoreLock.acquire(
      .writer,
      .exclusive,
      at: location,
      cancellation: control.cancellation
    )
    let chunkLock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: location,
      cancellation: control.cancellation
    )
    defer {
      chunkLock.release()
      writerLock.release()
    }
    var results: [PullResult] = []
    for entry in wanted {
      results.append(
        try pull(entry, as: name, remote, link, withData: withData, control: control)
      )
    }
    for snapshot in deleted {
      results.append(try pull(deleted: snapshot, remote, link, control: control))
    }
    return results
  }

  /// The snapshot of this store that `reference` names, when pages of it are only in the remote.
  private func incompleteSnapshot(
    _ reference: String,
    _ remote: RemoteRow,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> SnapshotRow? {
    guard let parsed = try? SnapshotReference(reference) else { return nil }
    return try read { database in
      guard let snapshot = try? SnapshotCatalog.resolve(parsed, in: database),
        try RemoteSnapshotTable(database, remoteID: remote.id).known(uuid: snapshot.uuid) != nil,
        try !Self.missingChunks(of: snapshot, database, control.cancellation).isEmpty
      else { return nil }
      return snapshot
    }
  }

  /// Brings the pages of a snapshot that was deleted in the remote, as long as no collection has removed them.
  private func pull(
    deleted snapshot: SnapshotRow,
    _ remote: RemoteRow,
    _ link: RemoteLink,
    control: OperationControl
  ) throws(VMCheckpointError) -> PullResult {
    let start = MonotonicClock.nowSeconds
    let before = link.transport.requestCounts
    return try withConnection(control: control) { database in
      do {
        let missing = try Self.missingChunks(of: snapshot, database, control.cancellation)
        let totals = try MissingChunks(database, link, remoteID: remote.id)
          .bring(missing, control: control)
        let after = link.transport.requestCounts
        return PullResult(
          name: snapshot.name,
          uuid: snapshot.uuid,
          vm: snapshot.vm,
          remote: remote.name,
          wasThere: false,
          gotWorkingSet: false,
          chunkCount: totals.chunkCount,
          pageCount: totals.pageCount,
          receivedByteCount: after.receivedByteCount - before.receivedByteCount,
          missingChunkCount: 0,
          getRequestCount: after.gets + after.heads - before.gets - before.heads,
          durationSeconds: MonotonicClock.nowSeconds - start
        )
      } catch {
        if database.isInsideTransaction { try? database.rollback() }
        guard let failure = error as? VMCheckpointError, failure.code == .notFound else {
          throw error
        }
        throw PlaceRenewal.deleted(snapshot, link)
      }
    }
  }

  private func pull(
    _ entry: RemoteCatalog.Entry,
    as name: String?,
    _ remote: RemoteRow,
    _ link: RemoteLink,
    withData: Bool,
    control: OperationControl
  ) throws(VMCheckpointError) -> PullResult {
    let start = MonotonicClock.nowSeconds
    let uuid = entry.summary.uuid
    let before = link.transport.requestCounts
    return try withConnection(control: control) { database in
      do {
        try UnfinishedSnapshots.remove(database, control.cancellation)
        let found = try ImportedSnapshot.snapshot(uuid: uuid, database)
        let hadRows = found != nil
        let snapshot = try found ?? fetch(entry, as: name, remote, link, database, control)
        let gotWorkingSet =
          try hadRows && takeWorkingSet(entry, for: snapshot, remote, link, database, control)
        let missing = try Self.missingChunks(of: snapshot, database, control.cancellation)
        var totals = MissingChunks.Totals()
        if withData {
          let bringing = MissingChunks(database, link, remoteID: remote.id)
          do {
            totals = try bringing.bring(missing, control: control)
          } catch let error as VMCheckpointError where error.code == .notFound {
            if database.isInsideTransaction { try database.rollback() }
            try PlaceRenewal(database, link, remoteID: remote.id, snapshot, control: control)
              .run(entry.key)
            totals = try bringing.bring(renewed: snapshot, control: control)
          }
        }
        let after = link.transport.requestCounts
        return PullResult(
          name: snapshot.name,
          uuid: snapshot.uuid,
          vm: snapshot.vm,
          remote: remote.name,
          wasThere: hadRows && (!withData || missing.isEmpty),
          gotWorkingSet: gotWorkingSet,
          chunkCount: totals.chunkCount,
          pageCount: totals.pageCount,
          receivedByteCount: after.receivedByteCount - before.receivedByteCount,
          missingChunkCount: withData ? 0 : UInt64(missing.count),
          getRequestCount: after.gets + after.heads - before.gets - before.heads,
          durationSeconds: MonotonicClock.nowSeconds - start
        )
      } catch {
        ignoreCancellation(database)
        if database.isInsideTransaction { try? database.rollback() }
        _ = try? UnfinishedSnapshots.remove(database, CancellationFlag())
        throw error
      }
    }
  }

  private func fetch(
    _ entry: RemoteCatalog.Entry,
    as name: String?,
    _ remote: RemoteRow,
    _ link: RemoteLink,
    _ database: Database,
    _ control: OperationControl
  ) throws -> SnapshotRow {
    guard let manifest = try ManifestHeads.whole(entry.key, link) else {
      throw VMCheckpointError(
        .notFound,
        "\(link.transport.title) has lost \(quotedName(entry.summary.name))"
      )
    }
    let facts = manifest.head.facts
    guard facts.uuid == entry.summary.uuid else {
      throw VMCheckpointError.corrupt(
        "the catalogue of \(link.transport.title) tells of another snapshot than its manifest"
      )
    }
    let name = name ?? facts.name
    try ImportedSnapshot.requireUnused(name, database)
    try facts.check()
    let operation = FetchOperation(
      database,
      link,
      remoteID: remote.id,
      manifest,
      name: name,
      control: control
    )
    let snapshot = try operation.run()
    try database.inTransaction(.immediate) {
      try RemoteSnapshotTable(database, remoteID: remote.id).insert(
        uuid: facts.uuid,
        vm: facts.vm,
        manifest: entry.key,
        packs: manifest.head.packs
      )
      return .commit
    }
    try IndexMerge.mergeRunsOfLikeSize(database, control.cancellation)
    return snapshot
  }

  /// Takes the working set of a snapshot that is here, where the remote has another manifest of it than was seen last,
  /// and a newer recording in that.
  private func takeWorkingSet(
    _ entry: RemoteCatalog.Entry,
    for snapshot: SnapshotRow,
    _ remote: RemoteRow,
    _ link: RemoteLink,
    _ database: Database,
    _ control: OperationControl
  ) throws -> Bool {
    let known = RemoteSnapshotTable(database, remoteID: remote.id)
    guard try known.known(uuid: snapshot.uuid)?.manifest != entry.key.text else { return false }
    do {
      guard let manifest = try ManifestHeads.whole(entry.key, link),
        manifest.head.facts.uuid == snapshot.uuid
      else { return false }
      let facts = manifest.head.facts
      try facts.check()
      var runs: [Range<UInt64>] = []
      try manifest.forEachItem { if case .workingSet(let run) = $0 { runs.append(run) } }
      var isNew = false
      try database.inTransaction(.immediate) {
        let table = WorkingSetTable(database)
        let own = try table.hasOwn(snapshot) ? table.summary(for: snapshot) : nil
        if let set = facts.workingSet, set.recordedAt > own?.recordedAt ?? "" {
          isNew = true
          try table.replace(
            of: snapshot,
            door: set.door,
            recordedAt: set.recordedAt,
            durationSeconds: set.durationSeconds,
            runs: runs
          )
        }
        try known.insert(
          uuid: snapshot.uuid,
          vm: snapshot.vm,
          manifest: entry.key,
          packs: manifest.head.packs
        )
        return .commit
      }
      return isNew
    } catch let error as VMCheckpointError where error.isDamage {
      control.onWarning?(error.message)
      return false
    }
  }

  /// The chunks that a snapshot's pages are in, and that have no data here.
  static func missingChunks(
    of snapshot: SnapshotRow,
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws -> [Int64] {
    guard try RemoteTable(database).isThere else { return [] }
    let select = try HotStatement(
      database,
      """
      SELECT DISTINCT e.chunk_id FROM ram_extent e
       WHERE e.snapshot_id = ?
         AND NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = e.chunk_id)
      """
    )
    defer { select.reset() }
    select.bind(snapshot.id, at: 1)
    var missing: [Int64] = []
    while try select.step() {
      missing.append(select.int64(0))
      if missing.count % 4096 == 0 { try cancellation.check() }
    }
    return missing
  }
}
