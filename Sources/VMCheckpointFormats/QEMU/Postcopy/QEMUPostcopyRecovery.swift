import Glibc
import VMCheckpoint

/// A QEMU that has lost the source of its pages, and takes another.
///
/// A vCPU may wait for a page and hold the lock that QEMU's main loop needs. Then only commands out of band are obeyed,
/// on a connection that was negotiated before.
struct QEMUPostcopyRecovery {
  /// QEMU notices soon that its source is gone.
  private static let pauseSeconds = 20.0
  private static let stateSeconds = 1.0
  private static let retryMicroseconds: UInt32 = 50_000
  /// How long a QEMU without a guest may take to end, whose source is gone.
  private static let refusalSeconds = 5.0

  private let monitor: QMPClient
  private let control: OperationControl

  init(_ monitor: QMPClient, _ control: OperationControl) {
    self.monitor = monitor
    self.control = control
  }

  /// Lets QEMU listen on a Unix socket at `path`, which is not there yet, and connects to it.
  ///
  /// - Throws: ``VMCheckpointError``: `unavailable` when QEMU does not wait for pages; `locked` when another server has
  ///   it; `cancelled`.
  func connect(by path: String) throws(VMCheckpointError) -> Int32 {
    let deadline = MonotonicClock.nowSeconds + Self.pauseSeconds
    while true {
      do throws(VMCheckpointError) {
        try monitor.run("migrate-recover", ["uri": "unix:\(path)"], outOfBand: true)
        break
      } catch {
        try control.cancellation.check()
        guard !monitor.isBroken else { throw error }
        // It may not have noticed yet, or have got a server that was killed as well.
        let state = state
        if let state, !state.hasPrefix("postcopy-") {
          throw VMCheckpointError(
            .unavailable,
            "\(monitor.name): the guest does not wait for pages; its migration is \(quotedName(state))",
            hint: Self.hint
          )
        }
        guard MonotonicClock.nowSeconds < deadline else {
          guard let state, state != "postcopy-paused" else { throw error }
          throw VMCheckpointError(
            .locked,
            "\(monitor.name): the guest's pages still come from another server",
            hint: Self.hint
          )
        }
      }
      usleep(Self.retryMicroseconds)
    }
    return try QMPClient.connect(path, name: "QEMU's socket \(quotedName(path))")
  }

  private static let hint =
    "a server is only taken up again that was killed before QEMU had all pages"

  /// Ends the leases that killed servers of the QEMU `target` have left, when it needs them no more.
  ///
  /// - Parameters:
  ///   - name: The snapshot that it runs from; `nil` for any.
  ///   - earliest: A lease from before is of a process that had the same number.
  /// - Returns: Whether there was one.
  @discardableResult
  static func dropLostLeases(
    in store: Store,
    target: QEMUPostcopyTarget,
    ofSnapshot name: String? = nil,
    begunSince earliest: String = ""
  ) -> Bool {
    let lost = ((try? store.leases()) ?? []).filter {
      $0.door == QEMUPostcopy.door && $0.target == target.leaseTarget && !$0.isHeld
        && $0.snapshot == name ?? $0.snapshot && $0.begunAt >= earliest
    }
    return lost.reduce(false) { hasDropped, lease in
      (try? store.dropLease(lease.id)) != nil || hasDropped
    }
  }

  /// Whether QEMU, whose source is gone, has a guest that waits for pages. A QEMU without one ends soon.
  ///
  /// - Parameter hasEnded: Whether it has.
  func hasGuest(until hasEnded: () -> Bool) -> Bool {
    let deadline = MonotonicClock.nowSeconds + Self.refusalSeconds
    while !hasEnded(), !monitor.isBroken, !control.cancellation.isCancelled {
      let state = state
      if state?.hasPrefix("postcopy-") == true { return true }
      if state == "completed" { return false }
      // It says nothing while a vCPU waits for a page and holds what its main loop needs.
      guard MonotonicClock.nowSeconds < deadline else { return state == nil }
      usleep(Self.retryMicroseconds)
    }
    return false
  }

  /// What QEMU's main loop says of its migration; `nil` while it says nothing.
  var state: String? {
    let reply = try? monitor.run("query-migrate", timeoutSeconds: Self.stateSeconds)
    guard let object = reply as? [String: Any] else { return nil }
    return object["status"] as? String ?? "none"
  }
}
