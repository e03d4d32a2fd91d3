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
    let title = try read { try SnapshotCatalog.resolve(reference, in: $0).title }
    func missing() throws(VMCheckpointError) -> [Int64] {
      try read { database in
        try Self.missingChunks(
          of: SnapshotCatalog.resolve(reference, in: database),
          database,
          control.cancellation
        )
      }
    }
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
      try withSharedChunks(control: control) { database in
        do {
          try MissingChunks(database, link, remoteID: remote.id).bring(here, control: control)
        } catch {
          if database.isInsideTransaction { try? database.rollback() }
          throw error
        }
      }
    }
    let lost = try missing().count
    guard lost == 0 else {
      throw VMCheckpointError(
        .corrupt,
        "\(title) is damaged: \(lost) of its chunks have no data here, and are in no remote of the store",
        hint: "fetch it anew from a remote, or see what is hurt with: vmckpt verify"
      )
    }
  }
}
