import Synchronization

/// Notes which pages a VM touches first, in their order, for some seconds from the first touch on.
///
/// One VM is watched: what several touch would come in no order. The pages of an answer count as touched, since the
/// others of an extent come with the one that was asked for, and cannot be seen any more. For the same reason
/// nothing must be put in place in the background while it records.
///
/// Thread-safe. A touch costs a lock and, now and then, room for more runs.
package final class WorkingSetRecorder: Sendable {
  private struct State {
    var runs: [Range<UInt64>] = []
    /// When the VM came.
    var startSeconds: Double?
    /// When it touched a page first.
    var firstSeconds: Double?
    var isOver = false

    /// When recording ends: some time after the first touch. A VM that touches nothing for as long is not waited
    /// for.
    func remainingSeconds(_ durationSeconds: Double) -> Double {
      guard !isOver, let startSeconds else { return 0 }
      return max(0, (firstSeconds ?? startSeconds) + durationSeconds - MonotonicClock.nowSeconds)
    }
  }

  /// A VM that was watched for less has hardly started.
  private static let minimumSeconds = 1.0

  private let durationSeconds: Double
  private let state: Mutex<State>

  package init(durationSeconds: Double) {
    self.durationSeconds = durationSeconds
    var state = State()
    state.runs.reserveCapacity(1024)
    self.state = Mutex(state)
  }

  /// Whether the caller's VM is watched from now on: that of the first who asks.
  package func claim() -> Bool {
    state.withLock { state in
      guard state.startSeconds == nil else { return false }
      state.startSeconds = MonotonicClock.nowSeconds
      return true
    }
  }

  /// The pages of an answer.
  package func note(_ pfns: Range<UInt64>) {
    guard !pfns.isEmpty else { return }
    state.withLock { state in
      guard state.remainingSeconds(durationSeconds) > 0 else { return }
      if state.firstSeconds == nil { state.firstSeconds = MonotonicClock.nowSeconds }
      if let last = state.runs.indices.last, state.runs[last].upperBound == pfns.lowerBound {
        state.runs[last] = state.runs[last].lowerBound..<pfns.upperBound
      } else if state.runs.count < WorkingSet.maximumRunCount {
        state.runs.append(pfns)
      }
    }
  }

  /// How long it still records; 0: it does not.
  package var remainingSeconds: Double {
    state.withLock { $0.remainingSeconds(durationSeconds) }
  }

  /// What was noted, once, as soon as it does not record any more. It does not, if `isEnding`, from now on.
  ///
  /// - Returns: `nil` before that, and when there is nothing that is worth keeping.
  package func finish(isEnding: Bool) -> (durationSeconds: Double, runs: [Range<UInt64>])? {
    state.withLock { state in
      guard !state.isOver, state.startSeconds != nil,
        isEnding || state.remainingSeconds(durationSeconds) == 0
      else { return nil }
      state.isOver = true
      defer { state.runs = [] }
      guard let first = state.firstSeconds else { return nil }
      let seconds = min(durationSeconds, MonotonicClock.nowSeconds - first)
      guard seconds >= min(durationSeconds, Self.minimumSeconds) else { return nil }
      return (seconds, state.runs)
    }
  }
}
