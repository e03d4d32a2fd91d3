import GRDB

extension Store {
  /// Deletes snapshots, then frees the chunks that no other snapshot names. Children of a deleted
  /// snapshot stay whole and descend from its parent.
  ///
  /// A snapshot with a lease is not deleted (``Lease``). When another operation holds chunks, freeing them is left to ``collectGarbage``. Space in the
  /// file is reused; ``collectGarbage`` returns it to the file system.
  ///
  /// - Throws: ``VMCheckpointError``. When a reference fits nothing, or a snapshot has a lease (`locked`),
  ///   nothing is deleted; when freeing fails or is cancelled, the snapshots are deleted and the rest is left to gc.
  public func delete(
    _ references: [SnapshotReference],
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> DeleteResult {
    let (deleted, collected) = try remove(control) { database in
      var snapshots: [SnapshotRow] = []
      for reference in references {
        let snapshot = try SnapshotCatalog.resolve(reference, in: database)
        if !snapshots.contains(where: { $0.id == snapshot.id }) { snapshots.append(snapshot) }
      }
      try LeaseTable(database, location).requireNone(for: snapshots)
      return snapshots
    } collect: { database in
      try freeDeadChunks(database, control)
    }
    return DeleteResult(deleted: deleted.map(\.name), collected: collected)
  }

  /// Removes snapshots, all or none, and then what only they used.
  ///
  /// - Parameters:
  ///   - select: Which ones, in the transaction that hides them from others.
  ///   - collect: Frees what nobody uses any more; is not called when there is nothing to remove.
  /// - Throws: ``VMCheckpointError``, as ``delete(_:control:)``.
  func remove(
    _ control: OperationControl,
    select: (Database) throws -> [SnapshotRow],
    collect: (Database) throws -> CollectResult?
  ) throws(VMCheckpointError) -> (removed: [SnapshotRow], collected: CollectResult?) {
    try requireWritable()
    return try freeingSpace(control: control) { database in
      _ = try LeaseTable(database, location).refresh()
      let snapshots = try hide(database, select)
      guard !snapshots.isEmpty else { return ([], nil) }
      do {
        try SnapshotRemover.remove(snapshots.map(\.id), database, control.cancellation)
        return (snapshots, try collect(database))
      } catch {
        let names = snapshots.map { quotedName($0.name) }.joined(separator: ", ")
        let hint = "free what only they used with: vmckpt gc"
        guard control.cancellation.isCancelled else {
          let cause = VMCheckpointError(translating: error, storePath: path)
          throw VMCheckpointError(
            cause.code,
            "deleted \(names), but could not free what only they used: \(cause.message)",
            hint: hint
          )
        }
        throw VMCheckpointError(
          .cancelled,
          "interrupted; deleted all the same: \(names)",
          hint: hint
        )
      }
    }
  }

  /// Hides the snapshots that `select` gives, all or none.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; all of them are there then.
  private func hide(
    _ database: Database,
    _ select: (Database) throws -> [SnapshotRow]
  ) throws -> [SnapshotRow] {
    var snapshots: [SnapshotRow] = []
    do {
      try database.inTransaction(.immediate) {
        snapshots = try select(database)
        try SnapshotRemover.hide(snapshots.map(\.id), database)
        return .commit
      }
    } catch let error as DatabaseError {
      // A commit that returns an error may count all the same. Where that cannot be found out, the first
      // error is the one to report: after a failed rollback SQLite calls a failed read damage.
      let isDone = (try? areHidden(snapshots, database)) ?? false
      guard !snapshots.isEmpty, isDone else { throw error }
    }
    return snapshots
  }

  private func areHidden(_ snapshots: [SnapshotRow], _ database: Database) throws -> Bool {
    try snapshots.allSatisfy { try SnapshotCatalog.fetch(id: $0.id, in: database) == nil }
  }

  private func freeDeadChunks(
    _ database: Database,
    _ control: OperationControl
  ) throws -> CollectResult? {
    guard let locks = try GarbageLocks.ifFree(at: location, control) else { return nil }
    defer { locks.release() }
    var collector = GarbageCollector(database, control: control) { try locks.requireInPlace() }
    // What a killed save or delete left names chunks that are freed now, and must go before them.
    try collector.removeUnfinishedSnapshots()
    try collector.freeDeadChunks()
    return try collector.finish()
  }
}
