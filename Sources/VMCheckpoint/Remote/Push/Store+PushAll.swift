extension Store {
  /// Pushes the snapshots that a remote does not have, in the order of their saving. What was pushed stays there,
  /// whatever becomes of the next one.
  ///
  /// A snapshot that is deleted meanwhile is passed over. One whose pages are only in a remote is passed over with a
  /// warning, and so is one whose name another snapshot of that VM has in the remote; the others are pushed before
  /// that is an error.
  ///
  /// - Parameter vm: Only this VM's; `nil`: all.
  /// - Throws: ``VMCheckpointError``: `cannotCreate` when names were taken; else as
  ///   ``push(_:to:_:control:)``.
  package func pushAll(
    ofVM vm: String? = nil,
    to remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> [PushResult] {
    try requireWritable()
    let link = try RemoteLink(transport, uuid: remote.uuid)
    let there = Set(try RemoteCatalog(link, control: control).entries().map(\.summary.uuid))
    let snapshots = try read { try SnapshotCatalog.all(in: $0) }
      .filter { (vm == nil || $0.vm == vm) && !there.contains($0.uuid) }
    var results: [PushResult] = []
    var refusals: [VMCheckpointError] = []
    for snapshot in snapshots {
      try control.cancellation.check()
      let isWhole = try read { database in
        try Self.missingChunks(of: snapshot, database, control.cancellation).isEmpty
      }
      guard isWhole else {
        control.onWarning?(
          "\(snapshot.title) was not pushed: it has pages that are not here; bring them with: vmckpt pull"
        )
        continue
      }
      do {
        let reference = try SnapshotReference(snapshot.uuid)
        results.append(try push(reference, to: remote, transport, control: control))
      } catch  where error.code == .cannotCreate {
        control.onWarning?("\(snapshot.title) was not pushed: \(error.message)")
        refusals.append(error)
      } catch  where error.code == .notFound {
        let isStillThere = try read { try SnapshotCatalog.fetch(id: snapshot.id, in: $0) != nil }
        if isStillThere { throw error }
      }
    }
    if let first = refusals.first {
      throw VMCheckpointError(
        .cannotCreate,
        "\(refusals.count) of \(snapshots.count) snapshots could not be pushed: \(first.message)",
        hint: first.hint
      )
    }
    return results
  }
}
