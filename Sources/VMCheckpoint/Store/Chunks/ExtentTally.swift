import GRDB

/// Adds up the extents of a snapshot that were read, so that a lost one, which would read as zeros, is
/// noticed.
struct ExtentTally {
  private(set) var pageCount: UInt64 = 0
  private(set) var checksum: UInt64 = 0

  mutating func add(_ extent: Extent) {
    pageCount += UInt64(extent.pageCount)
    checksum &+= extent.checksum
  }

  /// Whether these are all extents of the snapshot.
  ///
  /// - Parameter comparesChecksums: `false` where the pages are proved by ``SnapshotRow/ramDigest``.
  func isComplete(_ snapshot: SnapshotRow, comparesChecksums: Bool = true) -> Bool {
    pageCount == snapshot.storedPageCount
      && (!comparesChecksums || checksum == snapshot.ramChecksum)
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
    guard !isComplete(snapshot, comparesChecksums: comparesChecksums) else { return }
    guard try SnapshotCatalog.fetch(id: snapshot.id, in: database) != nil else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
    throw VMCheckpointError(
      .corrupt,
      "\(snapshot.title) is damaged: \(problem(snapshot))",
      hint: "see what is hurt with: vmckpt verify"
    )
  }

  /// What is wrong when these are not all extents of the snapshot.
  func problem(_ snapshot: SnapshotRow) -> String {
    pageCount == snapshot.storedPageCount
      ? "its extents do not have its checksum: one is lost, or not the one that was written"
      : "it has \(pageCount) pages instead of \(snapshot.storedPageCount)"
  }
}
