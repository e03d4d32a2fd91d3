/// Adds up the extents of a snapshot that were read, so that a lost one, which would read as zeros, is
/// noticed.
package struct ExtentTally: Sendable {
  package private(set) var pageCount: UInt64 = 0
  package private(set) var checksum: UInt64 = 0

  package init() {}

  package mutating func add(_ extent: Extent) {
    pageCount += UInt64(extent.pageCount)
    checksum &+= extent.checksum
  }

  /// What is wrong when these are not all extents of a snapshot that has so many pages.
  ///
  /// - Parameter ramChecksum: The sum of its extents' checksums; `nil` where the pages themselves are proved
  ///   by their digest.
  package func problem(storedPageCount: UInt64, ramChecksum: UInt64?) -> String? {
    if pageCount != storedPageCount {
      return "it has \(pageCount) pages instead of \(storedPageCount)"
    }
    guard let ramChecksum, checksum != ramChecksum else { return nil }
    return "its extents do not have its checksum: one is lost, or not the one that was written"
  }

  /// Checks that these are all extents of the snapshot.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they are not.
  package func requireComplete(_ snapshot: StoredSnapshot) throws(VMCheckpointError) {
    let problem = problem(
      storedPageCount: snapshot.storedPageCount,
      ramChecksum: snapshot.ramChecksum
    )
    if let problem { throw .corrupt("\(snapshot.title) is damaged: \(problem)") }
  }
}
