import GRDB

extension ExtentTally {
  /// What is wrong when these are not all extents of the snapshot.
  ///
  /// - Parameter comparesChecksums: `false` where the pages are proved by ``SnapshotRow/ramDigest``.
  func problem(_ snapshot: SnapshotRow, comparesChecksums: Bool = true) -> String? {
    problem(
      storedPageCount: snapshot.storedPageCount,
      ramChecksum: comparesChecksums ? snapshot.ramChecksum ?? 0 : nil
    )
  }

  /// Checks that these are all extents of the snapshot.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` when they are not, `notFound` when the snapshot was
  ///   deleted in the meantime; or `DatabaseError`.
  func requireComplete(
    _ snapshot: SnapshotRow,
    comparesChecksums: Bool = true,
    _ database: Database
  ) throws {
    guard let problem = problem(snapshot, comparesChecksums: comparesChecksums) else { return }
    guard try SnapshotCatalog.fetch(id: snapshot.id, in: database) != nil else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
    throw VMCheckpointError.corrupt("\(snapshot.title) is damaged: \(problem)")
  }
}
