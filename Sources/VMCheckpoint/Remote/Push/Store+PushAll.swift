extension Store {
  /// Pushes the snapshots that a remote does not have, in the order of their saving, and gives those that it has the
  /// working sets that were recorded here since. What was pushed stays there, whatever becomes of the next one.
  ///
  /// A snapshot that is deleted meanwhile is passed over. One whose pages are only in a remote is passed over with a
  /// warning, also where the remote had it when the push began and does not have it any more. So is one whose name
  /// another snapshot of that VM has in the remote; the others are pushed before that is an error.
  ///
  /// - Parameter vm: Only this VM's; `nil`: all.
  /// - Returns: What was pushed, and with which error it ended.
  /// - Throws: ``VMCheckpointError``: as ``push(_:to:_:control:)``, when nothing was pushed.
  package func pushAll(
    ofVM vm: String? = nil,
    to remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> PushReport {
    try requireWritable()
    let link = try RemoteLink(transport, uuid: remote.uuid)
    let entries = try RemoteCatalog(link, control: control).entries()
    let there = Dictionary(entries.map { ($0.summary.uuid, $0) }) { first, _ in first }
    let all = try read { try SnapshotCatalog.all(in: $0) }
    let wanted = all.filter { vm == nil || $0.vm == vm }
    let lacking = try lackingWorkingSets(wanted, of: all, there, link, control)
    let snapshots = wanted.filter { there[$0.uuid] == nil || lacking.contains($0.uuid) }
    var report = PushReport(wantedCount: snapshots.count)
    /// Whether the store has all of a snapshot's pages. `nil`: it does not have the snapshot any more.
    func isWhole(_ snapshot: SnapshotRow) throws(VMCheckpointError) -> Bool? {
      try read { database in
        guard try SnapshotCatalog.fetch(id: snapshot.id, in: database) != nil else { return nil }
        return try Self.missingChunks(of: snapshot, database, control.cancellation).isEmpty
      }
    }
    for snapshot in snapshots {
      do throws(VMCheckpointError) {
        try control.cancellation.check()
        // What the remote has needs no pages, unless it is deleted there meanwhile.
        if !lacking.contains(snapshot.uuid), try isWhole(snapshot) == false {
          throw Self.pagesAreElsewhere(snapshot)
        }
        let reference = try SnapshotReference(snapshot.uuid)
        let result = try push(reference, to: remote, transport, control: control)
        // Nothing is given where a collection has condemned what the snapshot needs.
        if !result.wasThere || result.gaveWorkingSet { report.results.append(result) }
      } catch {
        if error.code == .notFound {
          guard let isWhole = try? isWhole(snapshot) else { continue }
          guard isWhole else {
            control.onWarning?(
              "\(snapshot.title) was not pushed: it has pages that are not here; bring them with: vmckpt pull"
            )
            continue
          }
        }
        guard report.note(error, snapshot, control) else { break }
      }
    }
    return try report.checked()
  }

  /// What is said of a push that needs pages which are in a remote only.
  static func pagesAreElsewhere(_ snapshot: SnapshotRow) -> VMCheckpointError {
    VMCheckpointError(
      .notFound,
      "\(snapshot.title) has pages that are not here",
      hint: "bring them with: vmckpt pull \(snapshot.name)"
    )
  }

  /// How much later than the server's a host's clock may be at most: S3 refuses requests of other times.
  private static let clockDifferenceSeconds: Int64 = 900

  /// The UUIDs of those snapshots that a remote has without the working set that this store has for them: their own, or
  /// their nearest ancestor's.
  ///
  /// A manifest that was put after the recording has it. Only others are read; so few are, however many snapshots
  /// there are.
  ///
  /// - Parameters:
  ///   - snapshots: Which ones.
  ///   - all: The store's.
  ///   - there: What the remote has, by UUID.
  private func lackingWorkingSets(
    _ snapshots: [SnapshotRow],
    of all: [SnapshotRow],
    _ there: [String: RemoteCatalog.Entry],
    _ link: RemoteLink,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> Set<String> {
    struct Candidate {
      var entry: RemoteCatalog.Entry
      var recordedAt: String
      /// The recording is not an ancestor's.
      var isOwn: Bool
    }
    let recordings = try read { try WorkingSetTable($0).recordedTimes() }
    let parentIDs = Dictionary(all.map { ($0.id, $0.parentID) }) { first, _ in first }
    let candidates = snapshots.compactMap { snapshot -> Candidate? in
      guard let entry = there[snapshot.uuid],
        (entry.summary.vm, entry.summary.name) == (snapshot.vm, snapshot.name),
        let owner = WorkingSetTable.nearest(snapshot.id, parentIDs, { recordings[$0] != nil }),
        let recordedAt = recordings[owner],
        recordedAt > entry.timeOfPut(lessSeconds: Self.clockDifferenceSeconds)
      else { return nil }
      return Candidate(entry: entry, recordedAt: recordedAt, isOwn: owner == snapshot.id)
    }
    let uuids = try SideBySide.map(candidates) { (candidate) throws(VMCheckpointError) -> String? in
      do throws(VMCheckpointError) {
        guard let head = try ManifestHeads.read(candidate.entry.facts, link) else { return nil }
        let uuid = candidate.entry.summary.uuid
        guard let known = head.facts.workingSet?.recordedAt else { return uuid }
        return candidate.isOwn && candidate.recordedAt > known ? uuid : nil
      } catch {
        guard error.isDamage else { throw error }
        control.onWarning?(error.message)
        return nil
      }
    }
    return Set(uuids.compactMap { $0 })
  }
}
