extension Store {
  /// What a VM that starts from a snapshot touches first: as recorded from it, else from its nearest ancestor with
  /// a recording.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`.
  /// - Complexity: O(*n*) in the number of runs.
  public func workingSet(
    ofSnapshot reference: SnapshotReference
  ) throws(VMCheckpointError) -> WorkingSet? {
    try read { database in
      try WorkingSetTable(database).workingSet(
        for: SnapshotCatalog.resolve(reference, in: database)
      )
    }
  }

  package func workingSet(ofSnapshot uuid: String) throws(VMCheckpointError) -> WorkingSet? {
    try workingSet(ofSnapshot: SnapshotReference(uuid))
  }

  /// Stores a recording in place of the one that the snapshot has, if it has one.
  ///
  /// - Parameters:
  ///   - door: How pages were served, as `lease.door`.
  ///   - runs: PFNs in the order of their first touch.
  /// - Throws: ``VMCheckpointError``: `notFound` when the snapshot is gone; `permissionDenied`; `locked`.
  package func replaceWorkingSet(
    ofSnapshot uuid: String,
    door: String,
    durationSeconds: Double,
    runs: [Range<UInt64>]
  ) throws(VMCheckpointError) {
    try requireWritable()
    let reference = try SnapshotReference(uuid)
    try write { database in
      try WorkingSetTable(database).replace(
        of: SnapshotCatalog.resolve(reference, in: database),
        door: door,
        durationSeconds: durationSeconds,
        runs: runs
      )
    }
  }
}
