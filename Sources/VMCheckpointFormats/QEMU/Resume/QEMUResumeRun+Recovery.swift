import Foundation
import Glibc
import VMCheckpoint

/// How a guest that has lost its server gets another.
extension QEMUResumeRun {
  private static let warnedRecoveryCount = 10
  /// Between two servers that could not go on.
  private static let recoveryPauseSeconds = 1.0

  /// Replaces a server that was killed.
  mutating func look() throws(VMCheckpointError) {
    if needsServer {
      guard MonotonicClock.nowSeconds >= recoveryAt else { return }
      return recover()
    }
    guard let process = server, let status = Self.status(of: process) else { return }
    server = nil
    if status & 0x7f != 0 {
      guard !control.cancellation.isCancelled, monitor != nil else { return }
      control.onWarning?(
        "the server of the guest's pages was killed; another one goes on if the guest has run"
      )
      needsServer = true
      recover()
      return
    }
    let exitCode = status >> 8 & 0xff
    noteReport(exitCode: exitCode, warns: false)
    // The guest waits for its pages, and may for long: a store may come back.
    if let failure, exitCode != 0, failure.code != .corrupt, !control.cancellation.isCancelled,
      monitor != nil, serverCount > 1 || mayHaveGuest()
    {
      if recoveryCount <= Self.warnedRecoveryCount {
        control.onWarning?(
          "\(failure.message); the guest waits, and another server is tried each second"
        )
      }
      self.failure = nil
      needsServer = true
      recoveryAt = MonotonicClock.nowSeconds + Self.recoveryPauseSeconds
      return
    }
    // QEMU ends by itself if the guest did not run yet.
    if let failure { control.onWarning?(failure.message) }
    // QEMU would keep what nobody reads.
    monitor = nil
  }

  /// Starts another server for a QEMU that waits for pages. Where that fails, the next look tries again.
  private mutating func recover() {
    guard !control.cancellation.isCancelled, let monitor = connectedMonitor() else {
      return needsServer = false
    }
    recoveryCount += 1
    // Always in the beginning, and then ever more rarely.
    let warns = recoveryCount < Self.warnedRecoveryCount || recoveryCount.nonzeroBitCount == 1
    guard !monitor.isBroken else {
      needsServer = !hasQEMUEnded
      recoveryAt = MonotonicClock.nowSeconds + Self.recoveryPauseSeconds
      if warns, needsServer {
        control.onWarning?(
          "the guest waits for its pages, and \(monitor.name) cannot be reached to give it another server; that is "
            + "tried again and again"
        )
      }
      return
    }
    let path = scratch.file("recover-\(recoveryCount)")
    let recovery = QEMUPostcopyRecovery(monitor, control)
    do throws(VMCheckpointError) {
      let channel = QEMUPostcopyChannel(socket: try recovery.connect(by: path))
      let recovered = try QEMURecoveredPages(from: channel, blocks: blocks, control: control)
      try recovered.write(to: scratch.file("recovered"))
      // The channel closes its socket when it goes away.
      defer { withExtendedLifetime(channel) {} }
      try startServer(on: channel.descriptor, recovered: scratch.file("recovered"))
      needsServer = false
    } catch {
      let state = monitor.isBroken ? nil : recovery.state
      if state == "completed" {
        // The server was killed when it was done.
        needsServer = false
        dropLostLease()
        return
      }
      // Nobody can ask a QEMU that has ended; one that does not wait has failed.
      if hasQEMUEnded || state?.hasPrefix("postcopy-") == false { needsServer = false }
      if monitor.isBroken { recoveryAt = MonotonicClock.nowSeconds + Self.recoveryPauseSeconds }
      if warns { control.onWarning?(error.message) }
    }
  }

  /// Drops the lease that a killed server has left, when QEMU needs it no more.
  func dropLostLease() {
    guard let store = try? Store.open(at: storePath) else { return }
    QEMUPostcopyRecovery.dropLostLeases(
      in: store,
      target: QEMUPostcopyTarget(process: qemu),
      begunSince: begunAt
    )
  }

  /// Whether QEMU, whose first server has failed, may have a guest that waits for pages: also where it cannot be asked.
  private mutating func mayHaveGuest() -> Bool {
    guard let monitor = connectedMonitor() else { return false }
    return QEMUPostcopyRecovery(monitor, control).hasGuest(until: { hasQEMUEnded })
      || monitor.isBroken && !hasQEMUEnded
  }

  /// The monitor, connected anew if its connection is gone while QEMU is not. `nil` when there never was one.
  private mutating func connectedMonitor() -> QMPClient? {
    guard let current = monitor, current.isBroken, !hasQEMUEnded else { return monitor }
    // QEMU serves one client at a time. While its main loop waits it takes no other; then that is tried again later.
    current.abandon()
    let path = scratch.file(QEMUResumeCommandLine.monitorName)
    let new = try? QMPClient(path: path, outOfBand: true, cancellation: control.cancellation)
    if let new { monitor = new }
    return monitor
  }
}
