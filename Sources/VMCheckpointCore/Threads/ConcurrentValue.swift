import Synchronization

/// A value that is computed in a thread of its own, while its owner does something else.
///
/// Where no thread can be started, it is computed when it is asked for. The thread has ended when this object goes.
package final class ConcurrentValue<Value: Sendable>: Sendable {
  private let body: @Sendable () -> Value
  private let place: Place
  private let thread: Mutex<WorkerThreads?>

  /// Begins with `body`.
  package init(_ body: @escaping @Sendable () -> Value) {
    self.body = body
    let place = Place()
    self.place = place
    thread = Mutex(try? WorkerThreads(count: 1) { place.value.withLock { $0 = body() } })
  }

  deinit { join() }

  private final class Place: Sendable {
    let value = Mutex<Value?>(nil)
  }

  /// The value; waits for it.
  package var value: Value {
    join()
    return place.value.withLock { value in
      let found = value ?? body()
      value = found
      return found
    }
  }

  private func join() {
    thread.withLock { thread in
      thread?.join()
      thread = nil
    }
  }
}
