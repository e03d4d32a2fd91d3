/// Where a snapshot has RAM.
extension StoreReader {
  /// The snapshot's memory regions.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they make no sense, or are not all.
  package func layout(of snapshot: StoredSnapshot) throws -> RAMLayout {
    let statement = try statement(.regions)
    try statement.bind(snapshot.id, at: 1)
    var regions: [MemoryRegion] = []
    while try statement.step() {
      regions.append(
        MemoryRegion(
          gpa: UInt64(bitPattern: try statement.integer(0)),
          byteCount: UInt64(bitPattern: try statement.integer(1)),
          fileOffset: UInt64(bitPattern: try statement.integer(2)),
          name: try statement.text(3)
        )
      )
    }
    do throws(VMCheckpointError) {
      let layout = try RAMLayout(regions: regions)
      guard layout.byteCount == snapshot.ramByteCount else {
        throw VMCheckpointError(
          .corrupt,
          "its regions hold \(layout.byteCount) bytes, and its row says \(snapshot.ramByteCount)"
        )
      }
      return layout
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "\(snapshot.title) is damaged: \(error.message)",
        hint: "see what else is hurt with: vmckpt verify"
      )
    }
  }

  /// Whether `pfn` lies in a memory region of the snapshot: one row is read.
  package func isRAM(_ pfn: PFN, in snapshot: StoredSnapshot) throws -> Bool {
    guard pfn.gpa < RAMLayout.gpaLimit else { return false }
    let statement = try statement(.region)
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(pfn.gpa), at: 2)
    guard try statement.step() else { return false }
    let (gpa, byteCount) = (try statement.integer(0), try statement.integer(1))
    guard gpa >= 0, byteCount > 0 else {
      throw VMCheckpointError.corrupt("\(snapshot.title) is damaged: a memory region is impossible")
    }
    return Int64(pfn.gpa) - gpa < byteCount
  }
}
