import GRDB

extension Store {
  /// Deletes the snapshots of a remote that no rule of `policy` keeps. A collection frees what only they needed.
  ///
  /// The rules go by when a snapshot was complete, since lists of a remote know no more. One that is dated later than
  /// now is not the newest of anything.
  ///
  /// What other hosts push meanwhile stays. Only this store's leases are known, not those of other hosts.
  ///
  /// - Parameters:
  ///   - policy: What stays.
  ///   - dryRun: Only decide.
  /// - Returns: What was decided, in the order of saving.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when no rule says what to keep; `corrupt` for a snapshot whose
  ///   time has another form; as ``deleteRemoteSnapshots(_:of:_:control:)``.
  package func pruneRemote(
    _ policy: RetentionPolicy,
    dryRun: Bool,
    of remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> [Retention.Decision] {
    try policy.requireRule()
    let link = try RemoteLink(transport, uuid: remote.uuid)
    let entries = try RemoteCatalog(link, control: control).entries()
    let ordered = Self.inOrderOfSaving(entries)
    let leases = try read { try leasesByUUID($0) }
    let decisions = try Retention(policy).decide(Self.candidates(ordered, leases: leases))
    guard !dryRun else { return decisions }
    // By their places: a snapshot may be there under two names.
    let doomed = decisions.filter(\.reasons.isEmpty).map { ordered[Int($0.candidate.id) - 1] }
    try deleteManifests(
      in: doomed.map { "\(RemoteNames.folder(ofManifest: $0.key))/" },
      forgetting: Set(doomed.map(\.summary.uuid)).subtracting(
        decisions.filter { !$0.reasons.isEmpty }.map(\.candidate.uuid)
      ),
      remote,
      link,
      control
    )
    return decisions
  }

  /// The leases of this store, by the UUIDs of the snapshots that are served.
  private func leasesByUUID(_ database: Database) throws -> [String: Int64] {
    let leases = try LeaseTable(database, location).idsByName()
    guard !leases.isEmpty else { return [:] }
    let named = try SnapshotCatalog.all(in: database).compactMap { snapshot in
      leases[snapshot.name].map { (snapshot.uuid, $0) }
    }
    return Dictionary(named) { first, _ in first }
  }

  /// Those that are dated later than now come first, since nobody knows when they were saved.
  private static func inOrderOfSaving(_ entries: [RemoteCatalog.Entry]) -> [RemoteCatalog.Entry] {
    let future = FutureTimes.now
    return entries.map { (isAhead: future.secondsAhead(of: $0.summary.completedAt) != nil, $0) }
      .sorted { first, second in
        guard first.isAhead == second.isAhead else { return first.isAhead }
        let (first, second) = (first.1.summary, second.1.summary)
        return (first.completedAt, first.name) < (second.completedAt, second.name)
      }
      .map(\.1)
  }

  /// What ``Retention`` needs to know of a remote's snapshots: by their places, from 1 on.
  private static func candidates(
    _ entries: [RemoteCatalog.Entry],
    leases: [String: Int64]
  ) -> [Retention.Candidate] {
    struct Name: Hashable {
      var vm: String
      var name: String
    }
    let parents = Set(
      entries.compactMap { entry in
        entry.summary.parent.map { Name(vm: entry.summary.vm, name: $0) }
      }
    )
    return entries.enumerated().map { index, entry in
      let summary = entry.summary
      return Retention.Candidate(
        id: Int64(index) + 1,
        name: summary.name,
        uuid: summary.uuid,
        vm: summary.vm,
        startedAt: summary.completedAt,
        tags: summary.tags,
        hasChildren: parents.contains(Name(vm: summary.vm, name: summary.name)),
        lease: leases[summary.uuid]
      )
    }
  }
}
