import Synchronization
import VMCheckpoint

/// The longest that a guest may be stopped, watched by all threads that work meanwhile.
final class QEMUPauseLimit: Sendable {
  let maximumSeconds: Double
  /// When the guest must go on, by ``MonotonicClock``; `nil` while it runs.
  private let deadline = Mutex<Double?>(nil)

  init(maximumSeconds: Double) {
    self.maximumSeconds = maximumSeconds
  }

  /// What is left to do once everything is read: a tenth of the time, but at most 10 ms.
  private var reserveSeconds: Double { min(0.01, maximumSeconds / 10) }

  /// Notes when the guest was stopped, by ``MonotonicClock``. Only the first counts.
  func begin(atSeconds seconds: Double?) {
    guard let seconds else { return }
    deadline.withLock { deadline in
      if deadline == nil { deadline = seconds + maximumSeconds - reserveSeconds }
    }
  }

  /// Notes that the guest goes on.
  func end() { deadline.withLock { $0 = .infinity } }

  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the guest must go on.
  func check() throws(VMCheckpointError) {
    guard let deadline = deadline.withLock({ $0 }), MonotonicClock.nowSeconds >= deadline else {
      return
    }
    throw Self.exceeded("the VM would be stopped for longer than \(text(maximumSeconds)) ms")
  }

  /// Checks what is known before the guest is stopped.
  ///
  /// - Parameter seconds: For how long it will probably be stopped.
  /// - Throws: As ``check()``.
  func check(estimate seconds: Double) throws(VMCheckpointError) {
    guard seconds > maximumSeconds else { return }
    throw Self.exceeded(
      "the VM would be stopped for about \(text(seconds)) ms, which is longer than "
        + "\(text(maximumSeconds)) ms"
    )
  }

  private func text(_ seconds: Double) -> String { "\(Int((min(seconds, 1e9) * 1000).rounded()))" }

  private static func exceeded(_ problem: String) -> VMCheckpointError {
    VMCheckpointError(
      .unavailable,
      "\(problem); it runs on, and nothing was saved",
      hint: "allow more with --max-pause, or save when the VM has less to do"
    )
  }
}
