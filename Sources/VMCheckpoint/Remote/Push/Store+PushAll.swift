extension Store {
  /// Pushes the snapshots that a remote does not have, in the order of their saving, and gives those that it has the
  /// working sets that were recorded here since. What was pushed stays there, whatever becomes of the next one.
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
    let entries = try RemoteCatalog(link, control: control).entries()
    let there = Dictionary(entries.map { ($0.summary.uuid, $0) }) { first, _ in first }
    let all = try read { try SnapshotCatalog.all(in: $0) }.filter { vm == nil || $0.vm == vm }
    let lacking = try lackingWorkingSets(all, there, link, control)
    let snapshots = all.filter { there[$0.uuid] == nil || lacking.contains($0.uuid) }
    var results: [PushResult] = []
    var refusals: [VMCheckpointError] = []
    for snapshot in snapshots {
      try control.cancellation.check()
      let needsPages = !lacking.contains(snapshot.uuid)
      let isWhole = try read { database in
        try !needsPages
          || Self.missingChunks(of: snapshot, database, control.cancellation).isEmpty
      }
      guard isWhole else {
        control.onWarning?(
          "\(snapshot.title) was not pushed: it has pages that are not here; bring them with: vmckpt pull"
        )
        continue
      }
      do {
        let reference = try SnapshotReference(snapshot.uuid)
        let result = try push(reference, to: remote, transport, control: control)
        // Nothing is given where a collection has condemned what the snapshot needs.
        if !result.wasThere || result.gaveWorkingSet { results.append(result) }
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

  /// The UUIDs of those snapshots that a remote has without the working set that this store has for them.
  ///
  /// A manifest is read only where that set may be later than its push: one of the snapshot's own, or an ancestor's that
  /// was recorded after the snapshot was saved.
  ///
  /// - Parameter there: What the remote has, by UUID.
  private func lackingWorkingSets(
    _ snapshots: [SnapshotRow],
    _ there: [String: RemoteCatalog.Entry],
    _ link: RemoteLink,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> Set<String> {
    let candidates = try read { database in
      let table = WorkingSetTable(database)
      return try snapshots.compactMap { snapshot -> (SnapshotRow, RemoteCatalog.Entry)? in
        guard let entry = there[snapshot.uuid],
          (entry.summary.vm, entry.summary.name) == (snapshot.vm, snapshot.name),
          let set = try table.summary(for: snapshot),
          try table.hasOwn(snapshot) || set.recordedAt > entry.summary.completedAt
        else { return nil }
        return (snapshot, entry)
      }
    }
    let heads = try SideBySide.map(candidates) { (candidate) throws(VMCheckpointError) in
      do throws(VMCheckpointError) {
        return try ManifestHeads.read(candidate.1.facts, link)
      } catch {
        guard error.isDamage else { throw error }
        control.onWarning?(error.message)
        return nil
      }
    }
    return try read { database in
      let table = WorkingSetTable(database)
      var lacking = Set<String>()
      for ((snapshot, _), head) in zip(candidates, heads) {
        guard let head else { continue }
        let known = head.facts.workingSet?.recordedAt
        if try table.newer(than: known, for: snapshot) != nil { lacking.insert(snapshot.uuid) }
      }
      return lacking
    }
  }
}
