import Foundation
import Synchronization

/// A value that a thread of its own computes: for calls that block, side by side.
package final class ThreadResult<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)
  private let done = DispatchSemaphore(value: 0)

  /// Starts the thread.
  package init(_ body: @escaping @Sendable () -> Value) {
    let thread = Thread { [self] in
      let result = body()
      value.withLock { $0 = result }
      done.signal()
    }
    thread.stackSize = 8 << 20
    thread.start()
  }

  /// Waits for the value; call once.
  package func wait() -> Value {
    done.wait()
    return value.withLock { $0! }
  }
}
