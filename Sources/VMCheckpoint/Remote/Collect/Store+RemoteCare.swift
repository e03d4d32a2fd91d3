extension Store {
  /// Deletes what no snapshot of the remote needs. Others may push meanwhile.
  ///
  /// - Parameters:
  ///   - dryRun: Nothing is deleted.
  ///   - waits: Whether it waits for the pushes that are under way.
  /// - Throws: ``VMCheckpointError``: `corrupt` when a manifest cannot be read; and as ``RemoteTransport``.
  package func collectRemoteGarbage(
    _ remote: RemoteRow,
    _ transport: any RemoteTransport,
    dryRun: Bool,
    waits: Bool,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> RemoteCollectResult {
    let link = try RemoteLink(transport, uuid: remote.uuid)
    return try RemoteCollector(link, control: control).run(dryRun: dryRun, waits: waits)
  }

  /// Checks that a remote has what its snapshots need.
  ///
  /// - Parameter readingPercent: Of the packs whose data is read.
  /// - Throws: As ``RemoteTransport``; damage is a finding.
  package func checkRemote(
    _ remote: RemoteRow,
    _ transport: any RemoteTransport,
    readingPercent: Double,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> RemoteCheckResult {
    let link = try RemoteLink(transport, uuid: remote.uuid)
    do {
      return try RemoteChecker(link, control: control).run(readingPercent: readingPercent)
    } catch {
      throw VMCheckpointError(translating: error, storePath: path)
    }
  }

  /// Lets the snapshots of a remote count again that was copied or restored.
  ///
  /// - Returns: How many count again, and what is wrong with the others.
  /// - Throws: As ``RemoteTransport``.
  package func adoptRemote(
    _ remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> (adoptedCount: Int, problems: [String]) {
    let link = try RemoteLink(transport, uuid: remote.uuid)
    return try RemoteAdoption(link, control: control).run()
  }

  /// Deletes snapshots of a remote: their manifests. A collection frees what only they needed.
  ///
  /// - Parameter references: Names, or beginnings of UUIDs.
  /// - Returns: The names.
  /// - Throws: ``VMCheckpointError``: `notFound`, and nothing is deleted then; as ``RemoteTransport``.
  package func deleteRemoteSnapshots(
    _ references: [String],
    of remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> [String] {
    let link = try RemoteLink(transport, uuid: remote.uuid)
    let catalog = RemoteCatalog(link, control: control)
    var folders: [String] = []
    var names: [String] = []
    var uuids = Set<String>()
    for reference in references {
      do throws(VMCheckpointError) {
        let entry = try catalog.entry(reference)
        folders.append("\(RemoteNames.folder(ofManifest: entry.key))/")
        names.append(entry.summary.name)
        uuids.insert(entry.summary.uuid)
      } catch {
        // One that cannot be read does not count as a snapshot, and must go all the same.
        guard error.code == .notFound, let folder = try catalog.onlyFolder(named: reference) else {
          throw error
        }
        folders.append("\(folder)/")
        names.append(reference)
      }
    }
    try deleteManifests(in: folders, forgetting: uuids, remote, link, control)
    return names
  }

  /// Deletes snapshots of a remote, one after the other.
  ///
  /// - Parameters:
  ///   - folders: Of their manifests.
  ///   - uuids: Of those that the remote does not have any more then.
  /// - Throws: As ``RemoteTransport``; `cancelled`. Those before stay deleted, and the next ``RemoteCatalog`` says so.
  func deleteManifests(
    in folders: [String],
    forgetting uuids: Set<String>,
    _ remote: RemoteRow,
    _ link: RemoteLink,
    _ control: OperationControl
  ) throws(VMCheckpointError) {
    for folder in folders {
      try control.cancellation.check()
      // All generations: an older one must not come back.
      for facts in try link.list(folder) { try link.transport.delete(facts.key) }
    }
    try forget(uuids, remote)
  }

  /// Takes out the rows of snapshots that the remote has no more.
  private func forget(_ uuids: Set<String>, _ remote: RemoteRow) throws(VMCheckpointError) {
    guard !isReadOnly, !uuids.isEmpty else { return }
    try write { database in
      let table = RemoteSnapshotTable(database, remoteID: remote.id)
      for uuid in uuids { try table.remove(uuid: uuid) }
    }
  }
}
