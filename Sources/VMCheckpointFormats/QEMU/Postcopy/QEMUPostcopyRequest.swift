public import VMCheckpoint

/// What ``QEMUPostcopy/serve(_:storePath:control:)`` is asked for.
public struct QEMUPostcopyRequest: Sendable {
  /// Where QEMU is.
  public enum Place: Sendable, Hashable {
    /// It has started this process, by `-incoming exec:`.
    case pipes(input: Int32, output: Int32)
    /// It listens on a Unix socket, by `-incoming unix:`.
    case socket(path: String)
    /// It waits for another source, its own being gone. The path is that of its monitor, which speaks QMP.
    case recovery(monitorPath: String)
  }

  /// The snapshot.
  public var reference: SnapshotReference
  /// Where QEMU is.
  public var place: Place
  /// QEMU's process, which pipes do not show; `nil`: it is looked for among the parents of this process.
  public var process: Int32?
  /// The file of what QEMU, which is at the other end of pipes and has lost another source, has said since; `nil`: it
  /// has lost none.
  public var recoveredPath: String?
  /// Where a byte comes once the guest may be sent, so that all else is done while QEMU starts; the other end of it closes
  /// where QEMU has ended instead. `nil`: at once.
  public var startDescriptor: Int32?
  /// Whether RAM shows the overlays that QEMU does not lay over it itself.
  public var overlays: OverlayTreatment
  /// As for a restore.
  public var tscFrequencyHz: UInt64?
  /// As for a restore.
  public var cpuVendor: CPUVendor?
  /// Whether pages are sent that nobody has asked for yet. Without it QEMU never has all pages.
  public var prefetches = true
  /// For how long the guest's requests are recorded as the snapshot's working set, in place of what there is, while
  /// nothing is sent that it has not asked for; 0: not at all; `nil`: 5 seconds when neither the snapshot nor an
  /// ancestor has a working set.
  public var recordingSeconds: Double?
  /// Called when the guest runs, or goes on.
  public var onRun: (@Sendable (QEMUPostcopyReady) -> Void)?

  /// Makes a request with defaults for the rest.
  public init(
    reference: SnapshotReference,
    place: Place,
    overlays: OverlayTreatment = .apply,
    tscFrequencyHz: UInt64? = nil,
    cpuVendor: CPUVendor? = nil
  ) {
    self.reference = reference
    self.place = place
    self.overlays = overlays
    self.tscFrequencyHz = tscFrequencyHz
    self.cpuVendor = cpuVendor
  }

  /// Whether to go on for a source that is gone.
  var isRecovery: Bool {
    if case .recovery = place { return true }
    return recoveredPath != nil
  }
}

/// A guest that runs while its pages come.
public struct QEMUPostcopyReady: Sendable, Hashable {
  /// The snapshot's name.
  public var name: String
  /// QEMU's process, where it is known.
  public var process: Int32?
  /// The lease; `nil` in a store that may not be written.
  public var leaseID: Int64?
  /// Seconds from the first byte to QEMU until it had loaded the devices; from the question what it has, for a recovery.
  public var seconds: Double
}

/// What a server has done for one QEMU by its end.
public struct QEMUPostcopyResult: Sendable, Hashable, Codable {
  /// The snapshot's name.
  public var name: String
  /// The snapshot's UUID.
  public var uuid: String
  /// QEMU's process, where it is known.
  public var process: Int32?
  /// The lease; `nil` in a store that may not be written.
  public var leaseID: Int64?
  /// Whether it went on for a server that was gone.
  public var isRecovery: Bool
  /// Seconds from the first byte to QEMU until it had loaded all devices, and let the guest run; `nil` for a recovery.
  public var secondsToRun: Double?
  /// Seconds from the first byte until all pages were sent.
  public var secondsToSent: Double?
  /// How many requests for pages came.
  public var requestCount: UInt64
  /// Stored pages that were sent for requests.
  public var requestPageCount: UInt64
  /// Pages of zeros that were sent for requests.
  public var zeroPageCount: UInt64
  /// Stored pages of the working set.
  public var workingSetPageCount: UInt64
  /// Stored pages that were sent in the background.
  public var backgroundPageCount: UInt64
  /// What was sent before the guest asked for it; `nil`: there was no working set, or it was recorded.
  public var playedWorkingSet: WorkingSet.Summary?
  /// Whether a working set was recorded and stored.
  public var hasRecordedWorkingSet: Bool
  /// Chunks that were decoded.
  public var decodedChunkCount: UInt64
  /// Chunks that came from a remote.
  public var remoteChunkCount: UInt64
  /// Bytes in them, as they are stored.
  public var remoteByteCount: UInt64
  /// How often a remote did not give what was asked for, though it was asked several times.
  public var remoteWaitCount: UInt64
  /// Seconds for which that lasted in all.
  public var remoteWaitSeconds: Double
  /// Seconds from reading a request until the kernel had its answer, for half of all; `nil` without requests.
  public var requestSecondsP50: Double?
  /// The same for 99 of 100 requests.
  public var requestSecondsP99: Double?
  /// How long it took in all.
  public var durationSeconds: Double
}
