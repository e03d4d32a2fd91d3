/// What ``PageServer/serve(_:storePath:control:)`` is asked for.
public struct ServeRequest: Sendable {
  /// The snapshot.
  public var reference: SnapshotReference
  /// Where VMs connect: the path of a Unix socket, which must not be there, or be one that nobody serves.
  public var socketPath: String
  /// Whether pages are what the guest saw, or bare RAM.
  public var overlays: OverlayTreatment
  /// As for a restore.
  public var tscFrequencyHz: UInt64?
  /// As for a restore.
  public var cpuVendor: CPUVendor?
  /// Whether pages are put in place that no VM has asked for yet. A VM that has all of its pages needs no server.
  public var prefetches = true
  /// For how long what the first VM touches is recorded as the snapshot's working set, in place of the one that
  /// there is; 0: not at all; `nil`: ``WorkingSetUse/defaultSeconds`` when neither the snapshot nor an ancestor
  /// has one.
  public var recordingSeconds: Double?
  /// Whether to end after the first VM, once it has all of its pages or is gone.
  public var endsWithFirstVM = false
  /// What starts a ``ServeKeeper`` whose server is this program; `nil`: VMs wait for ever when this process is
  /// killed.
  public var keeperCommand: [String]?
  /// Where the keeper is that has started this process.
  public var keeperDescriptor: Int32?
  /// Called once VMs can connect.
  public var onReady: (@Sendable (ServeReady) -> Void)?

  /// Makes a request with defaults for the rest.
  public init(
    reference: SnapshotReference,
    socketPath: String,
    overlays: OverlayTreatment = .apply,
    tscFrequencyHz: UInt64? = nil,
    cpuVendor: CPUVendor? = nil
  ) {
    self.reference = reference
    self.socketPath = socketPath
    self.overlays = overlays
    self.tscFrequencyHz = tscFrequencyHz
    self.cpuVendor = cpuVendor
  }
}

/// A server that VMs can connect to.
public struct ServeReady: Sendable, Hashable {
  /// The snapshot's name.
  public var name: String
  /// Where VMs connect.
  public var socketPath: String
  /// The lease; `nil` in a store that may not be written.
  public var leaseID: Int64?
  /// How many VMs were taken over from a server that was killed.
  public var takenOverCount: Int
}

/// What a server has done by its end.
public struct ServeResult: Sendable, Hashable, Codable {
  /// The snapshot's name.
  public var name: String
  /// The snapshot's UUID.
  public var uuid: String
  /// Where VMs connected.
  public var socketPath: String
  /// The lease; `nil` in a store that may not be written.
  public var leaseID: Int64?
  /// How many VMs were served.
  public var vmCount: UInt64
  /// How many of them had all of their pages in the end.
  public var completeVMCount: UInt64
  /// What was done for all of them. A server that was killed in between counts from its successor's start.
  public var counts: ServeCounts
  /// What was put in place first; `nil`: there was no working set, or it was recorded.
  public var playedWorkingSet: WorkingSet.Summary?
  /// Whether a working set was recorded and stored.
  public var hasRecordedWorkingSet: Bool
  /// How long this process has served.
  public var durationSeconds: Double
}
