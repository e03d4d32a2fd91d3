public import VMCheckpoint

/// How the RAM of a resumed guest comes.
public enum QEMULaziness: String, Sendable, Hashable, CaseIterable, Codable {
  /// By a postcopy migration: the guest runs at once, and its pages follow.
  case postcopy
  /// From a mount of the guest's own: pages come when they are touched.
  case mount
  /// From a directory that is restored before the guest runs.
  case none
}

/// What ``QEMUResume/run(_:storePath:control:)`` is asked for.
public struct QEMUResumeRequest: Sendable {
  /// The snapshot.
  public var reference: SnapshotReference
  /// How RAM comes; `nil`: as the machine allows.
  public var laziness: QEMULaziness?
  /// Arguments for QEMU behind those that were recorded. If the first is not an option, they are the whole command
  /// line, and what was recorded is not used.
  public var arguments: [String] = []
  /// Whether a recorded command line may be run that this user did not record.
  public var trustsCommand = false
  /// What becomes of the recorded disks.
  package var diskMode = DiskMode.check
  /// As for ``QEMUPostcopyRequest``, and ``MountRequest``.
  public var recordingSeconds: Double?
  /// Where relative paths of the command line begin; `nil`: where they did when the guest was saved.
  public var workingDirectory: String?
  /// As for a restore.
  public var overlays: OverlayTreatment = .apply
  /// As for a restore.
  public var tscFrequencyHz: UInt64?
  /// As for a restore.
  public var cpuVendor: CPUVendor?
  /// Starts `vmckpt`: the program and what comes before the name of a command.
  public var ownCommand: [String]
  /// Where temporary files go.
  public var temporaryDirectory: String
  /// Where warnings of the guest's server go while it runs; `nil`: only into its report.
  public var noticeDescriptor: Int32?
  /// Called once it is known how RAM comes, before QEMU starts.
  public var onStart:
    (@Sendable (_ name: String, _ laziness: QEMULaziness, _ reason: String) -> Void)?

  /// Makes a request with defaults for the rest.
  public init(reference: SnapshotReference, ownCommand: [String], temporaryDirectory: String) {
    self.reference = reference
    self.ownCommand = ownCommand
    self.temporaryDirectory = temporaryDirectory
  }
}

/// How a resumed guest ended.
public struct QEMUResumeResult: Sendable, Hashable, Codable {
  /// The snapshot's name.
  public var name: String
  /// The snapshot's UUID.
  public var uuid: String
  /// How RAM came.
  public var laziness: QEMULaziness
  /// QEMU's exit code; `nil`: a signal ended it.
  public var exitCode: Int32?
  /// The signal that ended QEMU.
  public var signal: Int32?
  /// How many servers there were: more than one when some were killed.
  public var serverCount: Int
  /// What the server reported that was there at the end, as `vmckpt serve --qemu --json` prints it; `nil`: nothing.
  public var serverReport: String?
  /// How long it took until QEMU could begin to load the guest, by stage.
  public var stages: [QEMUResumeStage]
  /// How long QEMU ran, and RAM was restored before.
  public var durationSeconds: Double
}

/// A stage of a resume before QEMU loads the guest. What comes then the server reports.
public struct QEMUResumeStage: Sendable, Hashable, Codable {
  /// `prepare`: the snapshot, its command line and its disks were looked at. Then `start`: QEMU was started, and its
  /// monitor answered. Without a server `mount` or `restore` comes in place of `start`: RAM was made ready.
  public var name: String
  /// Wall time.
  public var seconds: Double
}
