import GRDB

extension Store {
  /// Removes unfinished snapshots, frees the chunks that no snapshot names, packs chunks anew that
  /// are mostly dead, and returns the space to the file system.
  ///
  /// Waits for saves, restores and verifies to end. On a full disk it uses the space that the store has kept for it;
  /// what needs more is left out, with a warning.
  ///
  /// - Parameter dryRun: Change nothing and report what would be freed; waits for nobody.
  /// - Throws: ``VMCheckpointError``. What was freed until then stays freed.
  public func collectGarbage(
    dryRun: Bool = false,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> CollectResult {
    if dryRun {
      return try withSharedChunks(control: control) { database in
        var collector = GarbageCollector(database, control: control, dryRun: true) {}
        try collector.removeUnfinishedSnapshots()
        try collector.freeDeadChunks()
        return try collector.finish()
      }
    }
    try requireWritable()
    let locks = try GarbageLocks(at: location, cancellation: control.cancellation)
    defer { locks.release() }
    return try freeingSpace(control: control) { database in
      for lease in try LeaseTable(database, location).refresh() where !lease.isHeld {
        control.onWarning?(
          "the server of \(lease.title) is gone; the lease keeps snapshot "
            + "\(quotedName(lease.snapshot)) for \(Lease.graceDays) days, or until: vmckpt lease drop "
            + "\(lease.id)"
        )
      }
      return try collect(database, locks, control)
    }
  }

  /// Does all of ``collectGarbage(dryRun:control:)``'s work.
  func collect(
    _ database: Database,
    _ locks: GarbageLocks,
    _ control: OperationControl
  ) throws -> CollectResult {
    var collector = GarbageCollector(database, control: control) { try locks.requireInPlace() }
    try collector.removeUnfinishedSnapshots()
    try collector.freeDeadChunks()
    try collector.tidyUp()
    return try collector.finish()
  }
}
