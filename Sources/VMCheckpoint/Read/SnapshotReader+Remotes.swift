import Synchronization

/// Pages of a snapshot that are in remotes only: asked for without waiting, and before anybody needs them.
extension SnapshotReader {
  /// Whether all chunks are here, as far as is known.
  package var hasAllChunks: Bool { supply.hasAll }

  /// Changes whenever ``isHere(_:isNeeded:)`` may answer otherwise than before.
  package var arrivalCount: Int { supply.arrivalCount }

  /// Whether pages can be read without waiting for a remote, or cannot be had at all. Otherwise they come.
  ///
  /// - Parameter isNeeded: Whether somebody waits for them. Such pages come before all others.
  /// - Complexity: O(*m* log *n*) for *m* extents of *n*, while chunks are missing.
  package func isHere(_ pfns: Range<UInt64>, isNeeded: Bool) -> Bool {
    guard !supply.hasAll else { return true }
    let map = extents.withLock { $0 }
    var isHere = true
    var next = pfns.lowerBound
    while next < pfns.upperBound {
      switch map.place(of: next) {
      case .zeros(let end): next = end
      case .extent(let extent):
        if !supply.isHere(extent.chunkID, isNeeded: isNeeded) { isHere = false }
        next = extent.endPFN
      }
    }
    return isHere
  }

  /// Lets pages come before anybody asks for them, several requests at a time.
  ///
  /// - Parameters:
  ///   - workingSet: What comes first, in this order.
  ///   - all: Whether all others follow.
  package func bringAhead(_ workingSet: [Range<UInt64>], all: Bool) {
    guard !supply.hasAll else { return }
    let map = extents.withLock { $0 }
    let missing = supply.missing
    var known = Set<Int64>()
    var first: [Int64] = []
    for run in workingSet {
      var next = run.lowerBound
      while next < run.upperBound {
        switch map.place(of: next) {
        case .zeros(let end): next = end
        case .extent(let extent):
          if missing.contains(extent.chunkID), known.insert(extent.chunkID).inserted {
            first.append(extent.chunkID)
          }
          next = extent.endPFN
        }
      }
    }
    supply.prefetch(first, isBackground: false)
    guard all else { return }
    supply.prefetch(
      map.chunkIDs.filter { missing.contains($0) && known.insert($0).inserted },
      isBackground: true
    )
  }

  /// Makes sure, without asking a remote, that missing pages can be brought at all.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied` when the store may not be written, a remote is not
  ///   confirmed or there are no credentials; `unavailable`.
  package func requireRemotes() throws(VMCheckpointError) { try supply.requireRemotes() }

  /// Rings whenever ``arrivalCount`` has changed.
  package func listen(_ bell: Doorbell) { supply.listen(bell) }

  /// Brings nothing any more; what came is in the store then.
  package func endBringing() { supply.close() }
}
