import SystemPackage

/// The leases of a mount: one for each snapshot of which files with RAM are open.
///
/// All their locks are on one open lock file, which the keeper has as well, so that no kill of a server frees them.
/// Where the store may not be written, or its disk has no room for a row, there are no leases, and the chunks' lock is
/// held instead.
///
/// Used by one thread at a time.
final class MountLeases {
  private let store: Store
  private let directory: String
  /// The lock file; `nil` where the store may not be written.
  private let locks: FileDescriptor?
  private var chunks: StoreLock?
  private let cancellation: CancellationFlag
  private let warn: @Sendable (String) -> Void
  private var held: [Int64: LeaseHold] = [:]
  /// Snapshots for which the chunks' lock is held in place of a lease.
  private var unleased: Set<Int64> = []

  /// - Parameter locks: The lock file, opened by ``LeaseLock``.
  init(
    _ store: Store,
    directory: String,
    locks: FileDescriptor?,
    cancellation: CancellationFlag,
    warn: @escaping @Sendable (String) -> Void
  ) throws(VMCheckpointError) {
    self.store = store
    self.cancellation = cancellation
    self.warn = warn
    self.directory = directory
    self.locks = locks
    chunks =
      locks == nil
      ? try StoreLock.acquire(.chunks, .shared, at: store.location, cancellation: cancellation)
      : nil
  }

  /// Takes up the leases of the server before, and removes those that nobody needs: of a server that was killed
  /// just after the last file was closed, or of another mount that was at this place.
  func takeUp(_ snapshots: [MountedSnapshot]) throws(VMCheckpointError) {
    guard let locks else { return }
    for snapshot in snapshots { try hold(snapshot) }
    do throws(VMCheckpointError) {
      try store.removeLeases(
        door: Lease.mountDoor,
        target: directory,
        except: Set(held.values.map(\.id)),
        locks
      )
    } catch {
      // Whoever reads does not wait for that.
      guard error.code == .inputOutput else { throw error }
      warn("cannot remove a lease: \(error.message); see: vmckpt lease list")
    }
  }

  /// Takes a lease, unless there is one.
  ///
  /// - Throws: ``VMCheckpointError`` as ``Store/takeLease(ofSnapshot:door:target:on:)``.
  func hold(_ snapshot: MountedSnapshot) throws(VMCheckpointError) {
    guard let locks, held[snapshot.id] == nil, !unleased.contains(snapshot.id) else { return }
    do throws(VMCheckpointError) {
      held[snapshot.id] = try store.takeLease(
        ofSnapshot: snapshot.uuid,
        door: Lease.mountDoor,
        target: directory,
        on: locks
      )
    } catch {
      guard error.code == .inputOutput else { throw error }
      if chunks == nil {
        chunks = try StoreLock.acquire(
          .chunks,
          .shared,
          at: store.location,
          cancellation: cancellation
        )
      }
      unleased.insert(snapshot.id)
      warn(ServeProtection.withoutLease(error, for: "its files are open"))
    }
  }

  /// Gives a snapshot's lease back.
  func release(_ snapshot: Int64) throws(VMCheckpointError) {
    if unleased.remove(snapshot) != nil, unleased.isEmpty {
      chunks?.release()
      chunks = nil
    }
    guard let lease = held[snapshot] else { return }
    try store.giveBack(lease, keepingLockFile: true)
    held[snapshot] = nil
  }

  func releaseAll() throws(VMCheckpointError) {
    for snapshot in held.keys.sorted() { try release(snapshot) }
  }
}
