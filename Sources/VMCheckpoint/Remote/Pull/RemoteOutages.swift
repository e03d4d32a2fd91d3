import Synchronization

/// What is said, and counted, while remotes do not give what a VM waits for.
///
/// One line at the beginning, when the reason changes, now and then while it lasts, and at the end. Thread-safe.
final class RemoteOutages: Sendable {
  /// How long until it is said again; twice as long each time, and at most ``longestSeconds``.
  private static let firstSeconds = 60.0
  private static let longestSeconds = 600.0

  private struct Outage {
    var beganSeconds: Double
    var code: VMCheckpointError.Code
    var saidSeconds: Double
    var pauseSeconds: Double
  }

  private struct State {
    var outages: [Int64: Outage] = [:]
    var count: UInt64 = 0
    var pastSeconds = 0.0
  }

  private let snapshot: String
  private let warn: @Sendable (String) -> Void
  private let state = Mutex(State())

  /// - Parameter name: The snapshot's.
  init(ofSnapshot name: String, warn: @escaping @Sendable (String) -> Void) {
    snapshot = name
    self.warn = warn
  }

  /// How often a remote did not give what was asked for, though it was asked several times, and for how long in all.
  var totals: (count: UInt64, seconds: Double) {
    let now = MonotonicClock.nowSeconds
    return state.withLock { state in
      (state.count, state.outages.values.reduce(state.pastSeconds) { $0 + now - $1.beganSeconds })
    }
  }

  /// A remote did not give what was asked for.
  func note(_ error: VMCheckpointError, _ remote: RemoteRow) {
    let now = MonotonicClock.nowSeconds
    let isToBeSaid = state.withLock { state in
      guard var outage = state.outages[remote.id] else {
        state.outages[remote.id] = Outage(
          beganSeconds: now,
          code: error.code,
          saidSeconds: now,
          pauseSeconds: Self.firstSeconds
        )
        state.count += 1
        return true
      }
      if outage.code == error.code {
        guard now >= outage.saidSeconds + outage.pauseSeconds else { return false }
        outage.pauseSeconds = min(Self.longestSeconds, outage.pauseSeconds * 2)
      }
      (outage.code, outage.saidSeconds) = (error.code, now)
      state.outages[remote.id] = outage
      return true
    }
    guard isToBeSaid else { return }
    // What is tried again by itself is not to be tried again.
    let advice = error.hint.map { "; \($0.replacing(", and try again", with: ""))" } ?? ""
    warn(
      "pages of snapshot \(quotedName(snapshot)) are only in \(remote.title), and whoever needs them waits "
        + "until they come: \(error.message)\(advice)"
    )
  }

  /// A remote gives what is asked for.
  func end(_ remote: RemoteRow) {
    let seconds = state.withLock { state -> Double? in
      guard let outage = state.outages.removeValue(forKey: remote.id) else { return nil }
      let seconds = MonotonicClock.nowSeconds - outage.beganSeconds
      state.pastSeconds += seconds
      return seconds
    }
    guard let seconds else { return }
    warn("\(remote.title) gives pages again, after \(Int(seconds.rounded(.up))) s")
  }
}
