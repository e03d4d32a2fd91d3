/// What ``StoreMount/mount(_:storePath:control:)`` is asked for.
public struct MountRequest: Sendable {
  /// Where the store's snapshots appear: a directory.
  public var directory: String
  /// Those that appear; none: all there are at any time.
  public var references: [SnapshotReference]
  /// Whether other users, and root, may use the mount.
  public var allowsOthers = false
  /// Whether this process serves the mount until it ends. Else another one does, and the call returns once it
  /// answers.
  public var staysInForeground = false
  /// What starts a ``ServeKeeper`` whose server is this program; needed unless the mount stays in the foreground.
  public var keeperCommand: [String]?
  /// Where the keeper is that has started this process.
  public var keeperDescriptor: Int32?
  /// For how long is recorded what the first VM touches that opens a snapshot's RAM for writing, in place of the
  /// working set that there is; 0: not at all; `nil`: ``WorkingSetUse/defaultSeconds`` when neither the snapshot nor an
  /// ancestor has one.
  public var recordingSeconds: Double?
  /// Makes the file `snapshot.json` of a snapshot.
  public var describe: @Sendable (SnapshotDetail) -> [UInt8] = { _ in [] }
  /// Called in the foreground once the mount answers.
  public var onReady: (@Sendable (MountReady) -> Void)?
  /// The formats that show snapshots as files, always in the same order.
  package var forms: [any MountForm] = []

  /// Makes a request with defaults for the rest.
  public init(directory: String, references: [SnapshotReference] = []) {
    self.directory = directory
    self.references = references
  }
}

/// A mount that answers.
public struct MountReady: Sendable, Hashable {
  /// As it was given.
  public var directory: String
  /// How many snapshots there are at the moment.
  public var snapshotCount: Int
  /// Whether this process has taken over from one that was killed.
  public var isSuccessor: Bool
}

/// A mount that was made, or that has ended.
public struct MountResult: Sendable, Hashable, Codable {
  /// The mount's absolute path.
  public var directory: String
  /// How many snapshots there were when this was made.
  public var snapshotCount: Int
  /// Whether another process serves the mount now; else it has ended.
  public var isMounted: Bool
  /// Whether files that hold RAM have leases: where the store may not be written, they have none.
  public var hasLeases: Bool
  /// What was done until the end; `nil` for a mount that another process serves.
  public var counts: MountCounts?
  /// How long this process took or served.
  public var durationSeconds: Double
}
