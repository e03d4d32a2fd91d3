/// One producer, several workers, and a fixed set of reusable items that go round between them:
/// free → filled by the producer → worked on → free. Memory is bounded by the number of items.
///
/// The first error of any worker stops the rest; the producer gets it at its next call.
package final class WorkerPool<Item: Sendable>: @unchecked Sendable {
  private static var workAvailable: Monitor.Condition { .init(0) }
  private static var itemFreed: Monitor.Condition { .init(1) }

  private let monitor = Monitor(conditionCount: 2)
  private let itemCount: Int

  // Guarded by `monitor`.
  private var free: [Item]
  private var filled: [Item] = []
  private var isClosed = false
  private var failure: VMCheckpointError?

  private init(items: [Item]) {
    free = items
    itemCount = items.count
    filled.reserveCapacity(items.count)
  }

  /// Runs `produce` on this thread with a pool whose items `work` gets on `threadCount` threads,
  /// and returns when all submitted items are worked on.
  ///
  /// - Parameters:
  ///   - makeWorker: Called once on each thread; what it returns works on one item.
  ///   - onFailure: Called on a thread that ends with an error, to wake those waiting for its work.
  /// - Throws: The first error of `produce` or of a worker. All threads have ended then.
  package static func run<Result>(
    threadCount: Int,
    items: [Item],
    makeWorker:
      @escaping @Sendable () throws(VMCheckpointError) -> (
        (Item) throws(VMCheckpointError) -> Void
      ),
    onFailure: @escaping @Sendable (VMCheckpointError) -> Void = { _ in },
    produce: (WorkerPool<Item>) throws -> Result
  ) throws -> Result {
    let pool = WorkerPool(items: items)
    let threads = try WorkerThreads(count: threadCount) {
      do throws(VMCheckpointError) {
        let work = try makeWorker()
        while let item = pool.takeFilled() {
          try work(item)
          pool.giveBack(item)
        }
      } catch {
        pool.fail(error)
        onFailure(error)
      }
    }
    do {
      let result = try produce(pool)
      pool.close()
      threads.join()
      if let failure = pool.monitor.withLock({ pool.failure }) { throw failure }
      return result
    } catch {
      pool.fail(VMCheckpointError(.cancelled, "interrupted"))
      threads.join()
      throw error
    }
  }

  /// An item to fill; waits for one to come free.
  ///
  /// - Throws: A worker's error.
  package func takeFree() throws(VMCheckpointError) -> Item {
    try monitor.withLock { () throws(VMCheckpointError) in
      while true {
        if let failure { throw failure }
        if let item = free.popLast() { return item }
        monitor.wait(for: Self.itemFreed)
      }
    }
  }

  /// An item to fill, where one is free.
  ///
  /// - Throws: A worker's error.
  package func takeFreeAtOnce() throws(VMCheckpointError) -> Item? {
    try monitor.withLock { () throws(VMCheckpointError) in
      if let failure { throw failure }
      return free.popLast()
    }
  }

  /// Hands a filled item to the workers.
  package func submit(_ item: Item) {
    monitor.withLock {
      filled.append(item)
      monitor.wakeOne(Self.workAvailable)
    }
  }

  /// Waits until no item is filled or being worked on.
  ///
  /// - Throws: A worker's error.
  package func drain() throws(VMCheckpointError) {
    try monitor.withLock { () throws(VMCheckpointError) in
      while free.count < itemCount {
        if let failure { throw failure }
        monitor.wait(for: Self.itemFreed)
      }
      if let failure { throw failure }
    }
  }

  private func takeFilled() -> Item? {
    monitor.withLock {
      while failure == nil {
        if !filled.isEmpty { return filled.removeFirst() }
        if isClosed { return nil }
        monitor.wait(for: Self.workAvailable)
      }
      return nil
    }
  }

  private func giveBack(_ item: Item) {
    monitor.withLock {
      free.append(item)
      monitor.wakeOne(Self.itemFreed)
    }
  }

  private func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll(Self.workAvailable)
    }
  }

  private func fail(_ error: VMCheckpointError) {
    monitor.withLock {
      if failure == nil { failure = error }
      monitor.wakeAll(Self.workAvailable)
      monitor.wakeAll(Self.itemFreed)
    }
  }
}
