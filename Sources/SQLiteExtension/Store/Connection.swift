import CSQLiteExtension
import VMCheckpointCore

/// One of the host's connections as all functions on it share it: the reader with the statements that scalar
/// functions use again and again, and decoded chunks.
///
/// SQLite calls a connection's functions one at a time.
final class Connection {
  let database: OpaquePointer
  private let host: HostDatabase
  let reader: StoreReader<HostDatabase>
  /// What was found of guests' kernels.
  let guests: GuestCache
  /// In how many snapshots pages were found to be.
  let sharing = SharingCache()

  init(_ database: OpaquePointer) {
    self.database = database
    host = HostDatabase(database)
    reader = StoreReader(host)
    guests = GuestCache(reader)
  }

  /// Called when SQLite connects `vmckpt_help`.
  func hook() { host.hook() }

  /// Lets go of everything: SQLite closes no connection that has statements.
  ///
  /// Called when SQLite disconnects `vmckpt_help`, which it does first when it closes.
  func release() {
    guests.release()
    sharing.release()
    reader.release()
    host.unhook()
  }

  /// Ends the hold that this connection's shared statements have on the database.
  func resetStatements() { reader.resetStatements() }

  /// A statement of the caller's own on the store's tables.
  func makeStatement(_ sql: String) throws -> Statement {
    try host.storeStatement(sql, isPersistent: false)
  }

  /// The snapshot that an argument names. The shared statement that found it stays open, and with it the
  /// view of the database: ``resetStatements()`` ends both.
  ///
  /// - Throws: `VMCheckpointError` or ``SQLError`` when there is none, or several.
  func snapshot(_ selector: SnapshotSelector) throws -> StoredSnapshot {
    switch selector {
    case .id(let id):
      guard let snapshot = try reader.snapshot(id: id) else {
        guard try isUnfinished(id) else {
          throw SQLError.misuse("there is no snapshot with the id \(id)")
        }
        var error = SQLError.misuse("the snapshot with the id \(id) is being saved or deleted")
        error.isUnfinishedSnapshot = true
        throw error
      }
      return snapshot
    case .reference(let reference):
      return try reader.snapshot(reference)
    }
  }

  private func isUnfinished(_ id: Int64) throws -> Bool {
    let statement = try makeStatement("SELECT 1 FROM snapshot WHERE id = ? AND state = 'writing'")
    try statement.bind(id, at: 1)
    return try statement.step()
  }

  /// The snapshot's extents that reach into `range`.
  func extents(
    of snapshot: StoredSnapshot,
    _ layout: RAMLayout,
    range: ClosedRange<UInt64>
  ) throws -> ExtentScan {
    let reach = UInt64(ExtentQuery.reach)
    return ExtentScan(
      try ExtentReader(
        host,
        snapshotID: snapshot.id,
        firstPFN: range.lowerBound - min(range.lowerBound, reach),
        lastPFN: range.upperBound,
        withChunks: true
      ),
      snapshot,
      layout,
      ExtentCheck(try reader.seed(), snapshot: snapshot.uuid),
      isWhole: range.lowerBound == 0 && range.upperBound >= layout.endPFN
    )
  }
}

/// How a function's `snapshot` argument names a snapshot: its id, or what the commands call REF.
enum SnapshotSelector {
  case id(Int64)
  case reference(SnapshotReference)

  init(_ argument: SQLArgument) throws {
    self =
      argument.isInteger
      ? .id(try argument.integer(in: .min ... .max))
      : .reference(try SnapshotReference(try argument.text()))
  }
}
