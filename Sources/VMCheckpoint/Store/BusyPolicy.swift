import Glibc
import Synchronization

/// Decides how long a connection waits for other processes' transactions.
///
/// One wait takes up to ``CancellationFlag/lockWaitSeconds``, a minute if nobody says otherwise. It ends well
/// when the lock is there, and the next wait has that time again. When it does not end well, the operation fails. Each statement of its cleaning up then
/// waits only a second. Else a reader who holds a lock for an hour would make every step of the
/// cleaning up wait that time once more. A cancelled operation cleans up in the same way, because its user
/// waits for the prompt. What it leaves behind, the next operation removes.
package final class BusyPolicy: Sendable {
  /// How long a statement waits for another process's transaction after a wait of the operation has ended
  /// without the lock.
  static let timeoutSecondsOnceOver = 1.0

  /// A statement waits so long in any case: a commit of another's takes some tens of milliseconds, and is nothing
  /// that a user means who does not want to wait.
  static let minimumTimeoutSeconds = 2.0

  private struct State {
    var cancellation: CancellationFlag?
    var deadlineSeconds = 0.0
    /// Whether the last wait ended without the lock.
    var isOver = false
    /// Whether the operation was cancelled, until the next one begins.
    var wasCancelled = false
  }

  private let timeoutSeconds: Double
  private let state = Mutex(State())

  /// A policy whose next wait has the whole time.
  ///
  /// - Parameter timeoutSeconds: How long a statement waits for another process's transaction.
  package init(timeoutSeconds: Double = CancellationFlag.defaultLockWaitSeconds) {
    self.timeoutSeconds = max(timeoutSeconds, Self.minimumTimeoutSeconds)
  }

  /// An operation begins, and has the whole time whatever became of the last one.
  func begin() {
    state.withLock { ($0.isOver, $0.wasCancelled) = (false, false) }
  }

  /// Lets `flag` end waits early, until the next call. If the flag before it was cancelled, waits are
  /// short from here on, until the next operation begins.
  func observe(_ flag: CancellationFlag?) {
    state.withLock { state in
      if state.cancellation?.isCancelled == true { state.wasCancelled = true }
      state.cancellation = flag
    }
  }

  /// SQLite's busy handler: sleeps and says whether to try again. `attempt` counts from 0 for
  /// each wait.
  func wait(attempt: Int) -> Bool {
    let now = MonotonicClock.nowSeconds
    let goesOn = state.withLock { state in
      if attempt == 0 {
        let isShort = state.isOver || state.wasCancelled
        state.deadlineSeconds =
          now + (isShort ? Self.timeoutSecondsOnceOver : timeoutSeconds)
        // Set again below, unless the lock is there before.
        state.isOver = false
      }
      guard state.cancellation?.isCancelled != true else { return false }
      state.isOver = now >= state.deadlineSeconds
      return !state.isOver
    }
    guard goesOn else { return false }
    usleep(UInt32(min(20_000, 500 << min(attempt, 6))))
    return true
  }
}
