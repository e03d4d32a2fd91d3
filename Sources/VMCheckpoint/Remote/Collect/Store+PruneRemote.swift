import GRDB

extension Store {
  /// Deletes the snapshots of a remote that no rule of `policy` keeps. A collection frees what only they needed.
  ///
  /// The rules go by when a snapshot was complete, since lists of a remote know no more. A clock that ran ahead does not
  /// count: no snapshot was complete after it came to the remote, as the server's clock tells.
  ///
  /// What other hosts push meanwhile is not looked at. Who serves a snapshot is known of this store only.
  ///
  /// - Parameters:
  ///   - policy: What stays.
  ///   - dryRun: Only decide.
  /// - Returns: What was decided, in the order of saving.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when no rule says what to keep; `corrupt` for a time that is
  ///   none; as ``deleteRemoteSnapshots(_:of:_:control:)``.
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
    let leases = try read { try leasesByUUID($0) }
    let decisions = try Retention(policy).decide(Self.candidates(entries, leases: leases))
    guard !dryRun else { return decisions }
    let doomed = Set(decisions.filter(\.reasons.isEmpty).map(\.candidate.uuid))
    try deleteManifests(
      of: entries.filter { doomed.contains($0.summary.uuid) },
      remote,
      link,
      control
    )
    return decisions
  }

  /// The leases of this store, by the UUIDs of the snapshots that are served.
  private func leasesByUUID(_ database: Database) throws -> [String: Int64] {
    var leases: [String: Int64] = [:]
    for lease in try LeaseTable(database, location).all() { leases[lease.snapshot] = lease.id }
    guard !leases.isEmpty else { return [:] }
    let named = try SnapshotCatalog.all(in: database).compactMap { snapshot in
      leases[snapshot.name].map { (snapshot.uuid, $0) }
    }
    return Dictionary(named) { first, _ in first }
  }

  /// What ``Retention`` needs to know of a remote's snapshots, in the order of saving: of when they were complete, or
  /// came to the remote, if that was earlier.
  package static func candidates(
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
    let ordered = entries.map { (entry: $0, time: min($0.summary.completedAt, $0.timeOfPut())) }
      .sorted { ($0.time, $0.entry.summary.name) < ($1.time, $1.entry.summary.name) }
    return ordered.enumerated().map { index, item in
      let summary = item.entry.summary
      return Retention.Candidate(
        id: Int64(index) + 1,
        name: summary.name,
        uuid: summary.uuid,
        vm: summary.vm,
        startedAt: item.time,
        tags: summary.tags,
        hasChildren: parents.contains(Name(vm: summary.vm, name: summary.name)),
        lease: leases[summary.uuid]
      )
    }
  }
}
