import GRDB

extension Store {
  /// Deletes the snapshots that no rule of `policy` keeps, frees what only they used, and returns the space to the
  /// file system.
  ///
  /// Which ones go is decided in the transaction that hides them. So a snapshot that another program saves, tags or
  /// begins to serve meanwhile is judged as it is, or not at all. When another operation holds chunks, freeing
  /// is left to ``collectGarbage(dryRun:control:)``.
  ///
  /// - Parameters:
  ///   - policy: What stays.
  ///   - dryRun: Only decide.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when no rule says what to keep; otherwise as
  ///   ``delete(_:control:)``.
  public func prune(
    _ policy: RetentionPolicy,
    dryRun: Bool = false,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> PruneResult {
    try policy.requireRule()
    if dryRun {
      return try read { database in
        PruneResult(try judge(policy, database), dryRun: true, collected: nil)
      }
    }
    var decisions: [Retention.Decision] = []
    let (_, collected) = try remove(control) { database in
      decisions = try judge(policy, database)
      return try decisions.filter(\.reasons.isEmpty).compactMap { decision in
        try SnapshotCatalog.fetch(id: decision.candidate.id, in: database)
      }
    } collect: { database in
      guard let locks = try GarbageLocks.ifFree(at: location, control) else { return nil }
      defer { locks.release() }
      return try collect(database, locks, control)
    }
    return PruneResult(decisions, dryRun: false, collected: collected)
  }

  private func judge(
    _ policy: RetentionPolicy,
    _ database: Database
  ) throws -> [Retention.Decision] {
    let leases = try LeaseTable(database, location).idsByName()
    var tags: [Int64: [String: String]] = [:]
    let tagRows = try Row.fetchCursor(
      database,
      sql: "SELECT snapshot_id, key, value FROM snapshot_tag"
    )
    while let row = try tagRows.next() {
      let (key, value): (String, String) = (try row.value(at: 1), try row.value(at: 2))
      tags[try row.value(at: 0), default: [:]][key] = value
    }
    let candidates = try Row.fetchAll(
      database,
      sql: """
        SELECT s.id, s.name, s.uuid, s.vm, s.started_at,
               EXISTS (SELECT 1 FROM snapshot c WHERE c.parent_id = s.id) AS has_children
          FROM snapshot s WHERE s.state = 'complete' ORDER BY s.id
        """
    ).map { row in
      let (id, name): (Int64, String) = (try row.value("id"), try row.value("name"))
      return Retention.Candidate(
        id: id,
        name: name,
        uuid: try row.value("uuid"),
        vm: try row.value("vm"),
        startedAt: try row.value("started_at"),
        tags: tags[id] ?? [:],
        hasChildren: try row.value("has_children"),
        lease: leases[name]
      )
    }
    return try Retention(policy).decide(candidates)
  }
}

/// What `prune` did, or would do.
public struct PruneResult: Sendable, Hashable {
  /// A snapshot that was looked at.
  public struct Snapshot: Sendable, Hashable {
    /// The snapshot's name.
    public var name: String
    /// The snapshot's UUID.
    public var uuid: String
    /// Whose it is.
    public var vm: String
    /// When its save began, as in the store.
    public var startedAt: String
    /// Why it stays; empty: it goes.
    public var reasons: [RetentionReason]
    /// By how many seconds ``startedAt`` is later than now, if by more than a minute: a clock was wrong when it was
    /// saved, or is wrong now. Rules that look at time may keep it until that much later. `nil`: it is not.
    public var aheadSeconds: Double?
  }

  /// Whether nothing was changed.
  public var dryRun: Bool
  /// Those that were looked at, in the order of their saving.
  public var snapshots: [Snapshot]
  /// What was freed; `nil`: nothing was deleted, or freeing was left to `gc`.
  public var collected: CollectResult?

  package init(_ decisions: [Retention.Decision], dryRun: Bool, collected: CollectResult?) {
    self.dryRun = dryRun
    self.collected = collected
    snapshots = decisions.map { decision in
      Snapshot(
        name: decision.candidate.name,
        uuid: decision.candidate.uuid,
        vm: decision.candidate.vm,
        startedAt: decision.candidate.startedAt,
        reasons: decision.reasons,
        aheadSeconds: decision.aheadSeconds
      )
    }
  }
}
