import GRDB

/// Gives a snapshot that a remote has the working set that was recorded here since: its manifest is put once more, as the
/// next generation. Its packs stay.
struct WorkingSetUpdate {
  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64
  private let snapshot: SnapshotRow

  init(_ database: Database, _ link: RemoteLink, remoteID: Int64, _ snapshot: SnapshotRow) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
    self.snapshot = snapshot
  }

  /// - Parameters:
  ///   - key: The manifest that counts, whose packs are not condemned.
  ///   - generation: Of the new one.
  /// - Returns: `false` when that manifest is gone: somebody deleted the snapshot.
  /// - Throws: ``VMCheckpointError``: `corrupt` for a damaged manifest; `unavailable` when it came too late; as
  ///   ``RemoteTransport``. `DatabaseError`.
  func run(
    _ set: WorkingSet,
    _ key: RemoteKey,
    generation: UInt32,
    _ session: inout RemoteSession
  ) throws -> Bool {
    guard let manifest = try ManifestHeads.whole(key, link) else { return false }
    try session.renewIfNeeded()
    let new = RemoteNames.manifest(
      vm: snapshot.vm,
      name: snapshot.name,
      generation: generation,
      RemoteID()
    )
    try session.commit(
      new,
      manifest.encoded(
        deadlineSeconds: session.deadlineSeconds,
        workingSet: ManifestFacts.WorkingSet(set.summary),
        runs: set.runs
      )
    )
    try database.inTransaction(.immediate) {
      try RemoteSnapshotTable(database, remoteID: remoteID).insert(
        uuid: snapshot.uuid,
        vm: snapshot.vm,
        manifest: new,
        packs: manifest.head.packs
      )
      return .commit
    }
    return true
  }
}
