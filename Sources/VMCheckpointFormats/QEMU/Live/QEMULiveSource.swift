import VMCheckpoint

/// A running VM of QEMU, and what to do with it.
public struct QEMULiveSource: Sendable, Hashable {
  /// The Unix socket of QEMU's monitor protocol, QMP. It serves one client at a time.
  public var socketPath: String

  /// Leave the VM stopped when it is saved; it goes on all the same when the save fails.
  public var leavesStopped: Bool

  /// For how long the guest may be stopped, in seconds. A save that takes longer fails, and the guest goes on;
  /// `nil`: for as long as it takes.
  public var maximumPauseSeconds: Double?

  /// A program, with arguments, that calls ``QEMUGuard/run(plan:)`` with one more argument. It is
  /// started before anything is changed, and outlives this process: should that be killed, it puts
  /// the VM's migration settings back and lets it go on. Empty: no such care.
  public var guardCommand: [String]

  /// Makes one with these values.
  public init(
    socketPath: String,
    leavesStopped: Bool = false,
    maximumPauseSeconds: Double? = nil,
    guardCommand: [String] = []
  ) {
    self.socketPath = socketPath
    self.leavesStopped = leavesStopped
    self.maximumPauseSeconds = maximumPauseSeconds
    self.guardCommand = guardCommand
  }
}
