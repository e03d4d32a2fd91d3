import Glibc

/// A mutex with condition variables, for threads that hand buffers to each other.
///
/// `Synchronization.Mutex` cannot wait for a condition, and Foundation's `NSCondition` has one
/// condition per lock, which would wake every thread at every event.
package final class Monitor: @unchecked Sendable {
  /// Something that threads wait for, by its number.
  package struct Condition: Sendable {
    fileprivate let index: Int
    package init(_ index: Int) { self.index = index }
  }

  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let conditions: UnsafeMutableBufferPointer<pthread_cond_t>

  package init(conditionCount: Int) {
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
    conditions = .allocate(capacity: conditionCount)
    conditions.initialize(repeating: pthread_cond_t())
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    for index in conditions.indices {
      pthread_cond_init(conditions.baseAddress! + index, &attributes)
    }
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    for index in conditions.indices {
      pthread_cond_destroy(conditions.baseAddress! + index)
    }
    conditions.deallocate()
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  package func withLock<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// Releases the lock, waits to be woken, and takes it again. Call with the lock held, in a loop
  /// that checks what is waited for.
  package func wait(for condition: Condition) {
    pthread_cond_wait(conditions.baseAddress! + condition.index, mutex)
  }

  /// As ``wait(for:)``, but not for longer than until `deadlineSeconds` on the system's monotonic clock.
  ///
  /// - Returns: `false` when that time has come.
  package func wait(for condition: Condition, untilSeconds deadlineSeconds: Double) -> Bool {
    var deadline = timespec(
      tv_sec: Int(deadlineSeconds),
      tv_nsec: Int(deadlineSeconds.truncatingRemainder(dividingBy: 1) * 1e9)
    )
    return pthread_cond_timedwait(conditions.baseAddress! + condition.index, mutex, &deadline)
      != ETIMEDOUT
  }

  package func wakeOne(_ condition: Condition) {
    pthread_cond_signal(conditions.baseAddress! + condition.index)
  }

  package func wakeAll(_ condition: Condition) {
    pthread_cond_broadcast(conditions.baseAddress! + condition.index)
  }
}
