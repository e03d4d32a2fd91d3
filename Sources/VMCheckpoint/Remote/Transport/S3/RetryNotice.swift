import Synchronization

/// Says that a server does not give what it is asked for, while requests are tried again: once when that begins, and at
/// its end. Thread-safe.
final class RetryNotice: Sendable {
  /// A server that fails again and again is not told of more often.
  private static let pauseSeconds = 30.0

  private struct State {
    var saidSeconds: Double?
    /// Since when it gives nothing, where that was said.
    var beganSeconds: Double?
  }

  private let title: String
  private let onWarning: (@Sendable (String) -> Void)?
  private let state = Mutex(State())

  /// - Parameter title: The remote's, for messages.
  init(_ title: String, _ onWarning: (@Sendable (String) -> Void)?) {
    self.title = title
    self.onWarning = onWarning
  }

  /// A request failed, or makes no progress.
  ///
  /// - Parameters:
  ///   - reason: Why, in words for a message.
  ///   - beganSeconds: When it was sent first, on ``MonotonicClock``.
  ///   - remainingSeconds: How long it is tried again, before that is an error.
  func note(_ reason: String, beganSeconds: Double, remainingSeconds: Double) {
    guard let onWarning else { return }
    let now = MonotonicClock.nowSeconds
    let isToBeSaid = state.withLock { state in
      if let said = state.saidSeconds, now < said + Self.pauseSeconds { return false }
      (state.saidSeconds, state.beganSeconds) = (now, beganSeconds)
      return true
    }
    guard isToBeSaid else { return }
    onWarning(
      "\(title) does not give what it is asked for: \(reason); it is asked again for up to "
        + "\(Int(max(1, remainingSeconds.rounded()))) s, and then that is an error"
    )
  }

  /// A request was answered.
  func end() {
    guard let onWarning else { return }
    let began = state.withLock { state -> Double? in
      defer { state.beganSeconds = nil }
      return state.beganSeconds
    }
    guard let began else { return }
    let seconds = Int((MonotonicClock.nowSeconds - began).rounded(.up))
    onWarning("\(title) answers again, after \(seconds) s")
  }
}
