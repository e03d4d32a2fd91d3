import GRDB

/// Where the pages of a snapshot are that is pushed. While the chunks' lock is not held, gc and optimize may move them,
/// and somebody may delete the snapshot.
struct PushedPages {
  /// They came into other chunks meanwhile: the push is to begin anew.
  struct Moved: Error {}

  let layout: RAMLayout
  let absent: AbsentPages
  let overlays: StoredOverlays
  let used: UsedChunks
  private let snapshot: SnapshotRow
  /// The store's when it was looked at last.
  private var version: Int64

  /// With the lock.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` when the snapshot is damaged, `notFound`, `cancelled`; `DatabaseError`.
  init(
    _ snapshot: SnapshotRow,
    _ database: Database,
    _ cancellation: CancellationFlag
  ) throws {
    self.snapshot = snapshot
    version = try NamedChunks.version(database)
    try Self.requirePresent(snapshot, database)
    layout = try snapshot.layout(database)
    absent = try snapshot.absentPages(database, in: layout)
    overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    try snapshot.requireDigest(layout, absent, overlays, database)
    used = try UsedChunks(of: snapshot, overlays, database, cancellation)
  }

  /// Looks again, with the lock that was taken again.
  ///
  /// - Throws: ``Moved``; ``VMCheckpointError``: `notFound` when the snapshot was deleted; and as the initializer.
  mutating func requireUnmoved(_ database: Database, _ cancellation: CancellationFlag) throws {
    let version = try NamedChunks.version(database)
    guard version != self.version else { return }
    try Self.requirePresent(snapshot, database)
    let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    let used = try UsedChunks(of: snapshot, overlays, database, cancellation)
    guard used == self.used,
      overlays.entries.map(\.contentsLocation) == self.overlays.entries.map(\.contentsLocation)
    else { throw Moved() }
    self.version = version
  }

  /// A snapshot that was deleted would look damaged.
  private static func requirePresent(_ snapshot: SnapshotRow, _ database: Database) throws {
    let present = try SnapshotCatalog.fetch(id: snapshot.id, in: database)
    guard present?.uuid == snapshot.uuid else {
      throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
    }
  }
}
