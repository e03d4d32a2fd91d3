import GRDB

extension Store {
  /// Brings the pages of a snapshot that are in remotes only, for who needs all of them.
  ///
  /// - Throws: ``VMCheckpointError``: `permissionDenied` when the store may not be written, or a remote is not confirmed;
  ///   `notFound`; `corrupt`; as ``RemoteTransport``. What came is kept.
  func bringMissingPages(
    of reference: SnapshotReference,
    control: OperationControl
  ) throws(VMCheckpointError) {
    let remotes = try remotes()
    guard !remotes.isEmpty else { return }
    let snapshot = try read { try SnapshotCatalog.resolve(reference, in: $0) }
    func missing() throws(VMCheckpointError) -> [Int64] {
      try read { try Self.missingChunks(of: snapshot, $0, control.cancellation) }
    }
    var failure: VMCheckpointError?
    for remote in remotes {
      let chunkIDs = try missing()
      guard !chunkIDs.isEmpty else { return }
      let here = try read { database in
        let places = try ChunkPlaceTable(database, remoteID: remote.id)
        return try chunkIDs.filter { try places.place(ofChunk: $0) != nil }
      }
      guard !here.isEmpty else { continue }
      let (_, transport) = try open(remote: remote.name, RemoteAccess(), control: control)
      let link = try RemoteLink(transport, uuid: remote.uuid)
      try requireWritable()
      do throws(VMCheckpointError) {
        try withSharedChunks(control: control) { database in
          do {
            try MissingChunks(database, link, remoteID: remote.id).bring(here, control: control)
          } catch {
            if database.isInsideTransaction { try? database.rollback() }
            throw error
          }
        }
      } catch {
        guard error.code == .notFound else { throw error }
        do throws(VMCheckpointError) {
          // No lock is held: gc waits for readers while it keeps writers away.
          try bringFromNewPlaces(snapshot, remote, link, control: control)
        } catch {
          guard error.code == .notFound else { throw error }
          // Another remote may have the pages.
          failure = failure ?? error
        }
      }
    }
    let lost = try missing().count
    guard lost == 0 else {
      if let failure { throw failure }
      throw VMCheckpointError(
        .corrupt,
        "\(snapshot.title) is damaged: \(lost) of its chunks have no data here, and are in no remote of the store",
        hint: "fetch it anew from a remote, or see what is hurt with: vmckpt verify"
      )
    }
  }

  /// Finds the pages of a snapshot anew that were fetched from a remote, and brings those that are not here.
  private func bringFromNewPlaces(
    _ snapshot: SnapshotRow,
    _ remote: RemoteRow,
    _ link: RemoteLink,
    control: OperationControl
  ) throws(VMCheckpointError) {
    try renewPlaces(of: snapshot, in: remote, link, control: control)
    try withSharedChunks(control: control) { database in
      do {
        _ = try MissingChunks(database, link, remoteID: remote.id)
          .bring(renewed: snapshot, control: control)
      } catch {
        if database.isInsideTransaction { try? database.rollback() }
        throw error
      }
    }
  }

  /// Finds the pages of a snapshot anew by the manifest that a remote has of it now.
  ///
  /// Waits for another save or gc of the store to end.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound` when the remote has it no more, or lacks its packs; `corrupt`; as
  ///   ``RemoteTransport``.
  func renewPlaces(
    of snapshot: SnapshotRow,
    in remote: RemoteRow,
    _ link: RemoteLink,
    control: OperationControl
  ) throws(VMCheckpointError) {
    guard let entry = try RemoteCatalog(link, control: control).entry(uuid: snapshot.uuid) else {
      throw PlaceRenewal.deleted(snapshot, link)
    }
    let writerLock = try StoreLock.acquire(
      .writer,
      .exclusive,
      at: location,
      cancellation: control.cancellation
    )
    defer { writerLock.release() }
    try withSharedChunks(control: control) { database in
      do {
        // The lock shows that whoever writes an unfinished snapshot is gone, and its chunks' numbers are free.
        try UnfinishedSnapshots.remove(database, control.cancellation)
        try PlaceRenewal(database, link, remoteID: remote.id, snapshot, control: control)
          .run(entry.key)
      } catch {
        if database.isInsideTransaction { try? database.rollback() }
        throw error
      }
    }
  }
}
