package import GRDB
import Synchronization

/// Ends connections without a new thread, where that is asked for.
///
/// GRDB's queue is a dispatch queue, and libdispatch lets a thread of its own take one down. Where no
/// thread can be made it tries again for ever, once a second. A process that runs one command and ends
/// need not take anything down: there the connection is closed and the queue is kept.
package enum ConnectionKeeper {
  private static let keepsQueues = Atomic<Bool>(false)
  private static let kept = Mutex<[DatabaseQueue]>([])

  /// From now on this process keeps the queues of closed connections. For processes that end soon.
  package static func keepQueues() { keepsQueues.store(true, ordering: .relaxed) }

  /// Closes a connection whose owner goes away.
  package static func retire(_ queue: DatabaseQueue) {
    guard keepsQueues.load(ordering: .relaxed) else { return }
    kept.withLock { $0.append(queue) }
    try? queue.close()
  }
}
