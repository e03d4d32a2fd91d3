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
    var doomed: [RemoteCatalog.Entry] = []
    for reference in references { doomed.append(try catalog.entry(reference)) }
    try deleteManifests(of: doomed, remote, link, control)
    return doomed.map(\.summary.name)
  }

  /// Deletes snapshots of a remote, one after the other.
  ///
  /// - Throws: As ``RemoteTransport``; `cancelled`. Those before stay deleted.
  func deleteManifests(
    of doomed: [RemoteCatalog.Entry],
    _ remote: RemoteRow,
    _ link: RemoteLink,
    _ control: OperationControl
  ) throws(VMCheckpointError) {
    var deleted: [String] = []
    do throws(VMCheckpointError) {
      for entry in doomed {
        try control.cancellation.check()
        // All generations: an older one must not come back.
        let folder = "\(RemoteNames.folder(ofManifest: entry.key))/"
        for facts in try link.list(folder) { try link.transport.delete(facts.key) }
        deleted.append(entry.summary.uuid)
      }
    } catch {
      try? forget(deleted, remote)
      throw error
    }
    try forget(deleted, remote)
  }

  /// Takes out the rows of snapshots that the remote has no more.
  private func forget(_ uuids: [String], _ remote: RemoteRow) throws(VMCheckpointError) {
    guard !isReadOnly, !uuids.isEmpty else { return }
    try write { database in
      let table = RemoteSnapshotTable(database, remoteID: remote.id)
      for uuid in uuids { try table.remove(uuid: uuid) }
    }
  }
}
