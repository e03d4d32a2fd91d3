/// What somebody who looks after a store wants to know every day: ``Store/status()``.
public struct StoreStatus: Sendable, Codable, Hashable {
  /// A VM that has snapshots.
  public struct VM: Sendable, Codable, Hashable {
    /// Its name.
    public var name: String
    /// Its complete snapshots.
    public var snapshotCount: UInt64
    /// The name of the one that was saved last.
    public var lastSnapshot: String
    /// When that was complete: ISO 8601, UTC.
    public var lastCompletedAt: String
    /// The seconds since then; 0 where the clock was set back, as ``furthestAheadSeconds`` shows.
    public var lastAgeSeconds: Double
    /// Snapshots that were complete more than a minute later than now, by their dates: a clock was wrong then, or is now.
    public var aheadSnapshotCount: UInt64
    /// The name of the one of these that is dated last.
    public var furthestAheadSnapshot: String?
    /// By how many seconds it is; 0: there are none.
    public var furthestAheadSeconds: Double
    /// The guest's RAM in it.
    public var lastRAMByteCount: UInt64
    /// What it added to the store, compressed.
    public var lastNewStoredByteCount: UInt64
    /// What all of the VM's snapshots have added to the store, compressed.
    public var newStoredByteCount: UInt64
    /// What those of the last seven days have added, without those that are dated later than now.
    public var weekNewStoredByteCount: UInt64
    /// Snapshots that were never read and proved as a whole since they were saved.
    public var unverifiedSnapshotCount: UInt64
    /// When the oldest of these was complete: since then the VM has something that is not verified.
    public var unverifiedSince: String?
    /// When the snapshot was read and proved for which that was longest ago; `nil` while one never was.
    public var verifiedAt: String?
  }

  /// The path that the store was opened at.
  public var path: String
  /// When this was asked: ISO 8601, UTC.
  public var time: String
  /// The VMs, by name.
  public var vms: [VM]

  /// Complete snapshots.
  public var snapshotCount: UInt64
  /// Snapshots that a save in progress, or one that died, has begun.
  public var unfinishedSnapshotCount: UInt64
  /// Leases of page servers that run.
  public var heldLeaseCount: UInt64
  /// Leases whose page server is gone.
  public var lostLeaseCount: UInt64

  /// The store's file.
  public var fileByteCount: UInt64
  /// Space in the file that nothing uses; `gc` returns it, and more where snapshots were deleted.
  public var reclaimableByteCount: UInt64
  /// What the file system keeps for the store, so that space can be freed on a full disk.
  public var reserveByteCount: UInt64
  /// What is free on the store's file system, for a user who is not root.
  public var fileSystemFreeByteCount: UInt64
  /// The size of that file system.
  public var fileSystemByteCount: UInt64

  /// Since when all of the store is read and proved; `nil`: it never was.
  public var verifiedAt: String?
  /// What the last verifications of everything have found damaged.
  public var problemCount: UInt64
}
