import GRDB

/// Finds the pages of a snapshot that was fetched anew, when the packs in which the store knows them are gone.
///
/// That happens when the snapshot was deleted in the remote and collected, and was then pushed again: its pages are in
/// other packs, and maybe with other pages beside them. The snapshot's extents come to name what its manifest of today
/// names. Old chunks stay, since other snapshots may name them; gc removes those that none does.
struct PlaceRenewal {
  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64
  private let snapshot: SnapshotRow
  private let control: OperationControl

  init(
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    _ snapshot: SnapshotRow,
    control: OperationControl
  ) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
    self.snapshot = snapshot
    self.control = control
  }

  /// Only for the holder of the writer's lock and of the chunks' lock, shared. What was read of the snapshot before stays
  /// right: the pages are the same.
  ///
  /// - Parameter key: The manifest that the remote has of the snapshot now.
  /// - Throws: ``VMCheckpointError``: `notFound` when the remote has no such manifest, or lacks packs that it names;
  ///   `corrupt` when it does not describe the snapshot's pages; as ``RemoteTransport``; `DatabaseError`. The snapshot is
  ///   as it was then.
  func run(_ key: RemoteKey) throws {
    guard let manifest = try ManifestHeads.whole(key, link) else {
      throw Self.deleted(snapshot, link)
    }
    let facts = manifest.head.facts
    guard facts.uuid == snapshot.uuid, facts.ramDigest == hexadecimal(Array(snapshot.ramDigest)),
      facts.digest == hexadecimal(Array(snapshot.digest))
    else {
      throw VMCheckpointError.corrupt(
        "\(link.transport.title) has another snapshot under the UUID of \(snapshot.title)"
      )
    }
    let footers = try PackFooters(
      database,
      link,
      remoteID: remoteID,
      packs: manifest.head.packs,
      control: control
    )
    try database.inTransaction(.immediate) {
      try replaceExtents(manifest, footers)
      try RemoteSnapshotTable(database, remoteID: remoteID).insert(
        uuid: snapshot.uuid,
        vm: snapshot.vm,
        manifest: key,
        packs: manifest.head.packs
      )
      return .commit
    }
    try IndexMerge.mergeRunsOfLikeSize(database, control.cancellation)
  }

  private func replaceExtents(_ manifest: Manifest, _ footers: PackFooters) throws {
    try database.execute(
      sql: "DELETE FROM ram_extent WHERE snapshot_id = ?",
      arguments: [snapshot.id]
    )
    let checksums = try StoreSeed(database).extentChecksum
    var pages = try FetchedPages(database, footers, remoteID: remoteID)
    var extents = try ExtentWriter(
      database,
      snapshotID: snapshot.id,
      key: checksums.key(ofSnapshot: snapshot.uuid),
      checksums: checksums
    )
    var digester = RAMDigester()
    let numbers = ChunkNumbers(1)
    try manifest.forEachItem { item in
      guard case .extent(let firstPFN, let pageCount, let place) = item else { return }
      try pages.add(place, count: pageCount, from: firstPFN, to: &extents, &digester)
      if extents.pendingCount >= ExtentWriter.pendingLimit {
        try control.cancellation.check()
        _ = try extents.write(numbers, isEnd: false)
      }
    }
    _ = try extents.write(numbers, isEnd: true)
    try pages.finish()
    guard digester.finalize() == Array(snapshot.ramDigest) else {
      throw VMCheckpointError.corrupt(
        "the pages that \(link.transport.title) has of \(snapshot.title) do not have the digest of its RAM"
      )
    }
    try extents.tally.requireComplete(snapshot, database)
    try VerificationTable(database).noteUnread(snapshot.id)
  }

  /// What is said of a snapshot whose manifest is not in the remote any more, nor all pages that are not here.
  static func deleted(_ snapshot: SnapshotRow, _ link: RemoteLink) -> VMCheckpointError {
    VMCheckpointError(
      .notFound,
      "\(snapshot.title) was deleted from \(link.transport.title), and pages of it that are not here are gone there",
      hint:
        "push it again from a host that has it, or delete it here with: vmckpt delete \(snapshot.name)"
    )
  }

  /// What is said of a snapshot that the remote has, and whose packs it lacks.
  static func lost(_ snapshot: SnapshotRow, _ error: VMCheckpointError) -> VMCheckpointError {
    VMCheckpointError(
      error.code,
      "pages of \(snapshot.title) are lost: \(error.message)",
      hint:
        "see what else is with: vmckpt remote check; then 'vmckpt remote delete' it, and push it again from a host "
        + "that has it"
    )
  }
}
