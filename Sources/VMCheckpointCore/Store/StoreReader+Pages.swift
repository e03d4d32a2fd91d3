/// Single pages of a snapshot.
extension StoreReader {
  /// Calls `body` with the page as bare RAM, its SHA-256 found right, or with `nil` where it is zero. The
  /// bytes are valid for the call only.
  ///
  /// - Precondition: `pfn` is RAM of the snapshot.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the store is damaged there; what `body`
  ///   throws.
  package func withPage<Result>(
    at pfn: PFN,
    of snapshot: StoredSnapshot,
    _ body: (UnsafeRawBufferPointer?) throws -> Result
  ) throws -> Result {
    guard let (row, slot) = try location(of: pfn, in: snapshot) else { return try body(nil) }
    return try body(try chunks().page(row, slot: slot))
  }

  /// The digest of a page of RAM; `nil` when it is zero.
  ///
  /// - Precondition: `pfn` is RAM of the snapshot.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`.
  package func digest(at pfn: PFN, of snapshot: StoredSnapshot) throws -> PageDigest? {
    guard let (row, slot) = try location(of: pfn, in: snapshot) else { return nil }
    return try row.digest(slot)
  }

  /// The chunk and the slot that hold a page, the extent's checksum compared; `nil` when it is zero.
  private func location(
    of pfn: PFN,
    in snapshot: StoredSnapshot
  ) throws -> (row: ChunkRow, slot: Int)? {
    let statement = try statement(.extent)
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.rawValue), at: 2)
    guard try statement.step() else {
      try requireAllExtents(of: snapshot)
      return nil
    }
    let extent = try Extent(statement)
    let row = try ChunkRow(statement, id: extent.chunkID, at: ExtentQuery.chunkColumn)
    try extent.check(row, of: snapshot, with: ExtentCheck(seed(), snapshot: snapshot.uuid))
    return (row, Int(extent.firstSlot) + Int(pfn.rawValue - extent.firstPFN))
  }

  /// Checks that no extent of the snapshot is lost or at other PFNs, since its pages would read as zeros. Reads
  /// all of them once, with the digests that they name, and again when the store has changed.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when one is.
  /// - Complexity: O(*n*) in the number of stored pages.
  package func requireAllExtents(of snapshot: StoredSnapshot) throws {
    let version = try dataVersion()
    guard wholeSnapshots[snapshot.uuid] != version else { return }
    let check = try ExtentCheck(seed(), snapshot: snapshot.uuid)
    let statement = try statement(.allExtents)
    defer { statement.reset() }
    try statement.bind(snapshot.id, at: 1)
    var tally = ExtentTally()
    while try statement.step() {
      let extent = try Extent(statement)
      let row = try ChunkRow(statement, id: extent.chunkID, at: ExtentQuery.chunkColumn)
      try extent.check(row, of: snapshot, with: check)
      tally.add(extent)
    }
    guard
      tally.problem(
        storedPageCount: snapshot.storedPageCount,
        ramChecksum: snapshot.ramChecksum
      ) == nil
    else { throw VMCheckpointError.lostExtent(snapshot) }
    if wholeSnapshots.count >= Self.wholeSnapshotsMaximum { wholeSnapshots.removeAll() }
    wholeSnapshots[snapshot.uuid] = version
  }

  /// The page in a slot of a chunk, its SHA-256 found right.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when there is none.
  package func page(at location: PageLocation) throws -> PageContents {
    let statement = try statement(.chunk)
    defer { statement.reset() }
    try statement.bind(location.chunkID, at: 1)
    guard try statement.step() else {
      throw VMCheckpointError.corrupt("chunk \(location.chunkID) is missing")
    }
    let row = try ChunkRow(statement, id: location.chunkID, at: 0)
    return PageContents(copying: try chunks().page(row, slot: location.slot))!
  }
}

extension VMCheckpointError {
  package static func lostExtent(_ snapshot: StoredSnapshot) -> VMCheckpointError {
    .corrupt("\(snapshot.title) is damaged: an extent is lost, or not the one that was written")
  }
}
