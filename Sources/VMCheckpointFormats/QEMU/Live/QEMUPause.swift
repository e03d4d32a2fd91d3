import VMCheckpoint

/// The guest's stop in a live save: how it ends, and for how long it was.
final class QEMUPause {
  private let client: QMPClient
  private let undo: QEMUUndo
  private let guardProcess: QEMUGuardProcess?
  private let leavesStopped: Bool
  let limit: QEMUPauseLimit?
  private let startSeconds = MonotonicClock.nowSeconds

  /// Whether the guest was let go on, if it ran, and the settings are as they were.
  private(set) var hasEnded = false
  /// For how long the guest was stopped, by QEMU's clock; `nil` when it did not run before or does not go on,
  /// or QEMU does not say.
  private var seconds: Double?
  /// How the guest's stop was kept short; as long as nothing else is known, it was not.
  var method = PauseMethod.stopped

  /// What the save tells of it; `nil` as `seconds`.
  var report: LivePause? { seconds.map { LivePause(seconds: $0, method: method) } }

  init(
    _ client: QMPClient,
    _ undo: QEMUUndo,
    _ guardProcess: QEMUGuardProcess?,
    leavesStopped: Bool,
    limit: QEMUPauseLimit?
  ) {
    self.limit = limit
    self.client = client
    self.undo = undo
    self.guardProcess = guardProcess
    self.leavesStopped = leavesStopped
  }

  /// Checks that the guest, if it ran, is stopped since it was captured: what was read of its RAM is of one moment.
  ///
  /// - Throws: As ``QEMUGuardProcess/requireIdle()``.
  func check() throws(VMCheckpointError) { try guardProcess?.requireIdle() }

  /// Ends it: all of the guest is here. The guest need not wait until it is stored.
  ///
  /// - Throws: ``VMCheckpointError``: as ``QEMUGuardProcess/requireIdle()``, and when QEMU does not do it.
  func end() throws(VMCheckpointError) {
    guard !hasEnded else { return }
    try check()
    try limit?.check()
    limit?.end()
    // A background snapshot has let the guest go on.
    let goesOn = method == .backgroundSnapshot && client.resumedAtSeconds != nil
    try undo.perform(client, resumes: !leavesStopped && !goesOn)
    hasEnded = true
    // A guest that runs needs no guard, and a save that is stopped now harms nobody.
    if !leavesStopped { guardProcess?.dismiss() }
    // What others do with the VM from now on does not count.
    try? client.takeEvents()
    seconds = measured
  }

  /// QEMU's clock may have been set meanwhile, and another program than QEMU may answer.
  private var measured: Double? {
    guard let stopped = client.stoppedAtSeconds, let resumed = client.resumedAtSeconds else {
      return nil
    }
    let seconds = resumed - stopped
    return seconds <= MonotonicClock.nowSeconds - startSeconds ? max(0, seconds) : nil
  }
}
