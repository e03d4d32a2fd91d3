import Synchronization

/// Calls `body` with each index below `count`, on threads side by side, and throws what one of them threw.
package func onThreads(
  _ threadCount: Int,
  count: Int,
  _ body: @escaping @Sendable (Int) throws -> Void
) throws {
  let next = ThreadsState()
  let threads = (0..<threadCount).map { _ in
    ThreadResult<Void> {
      while let index = next.take(below: count) {
        do { try body(index) } catch { next.fail(error) }
      }
    }
  }
  for thread in threads { thread.wait() }
  if let error = next.failure { throw error }
}

private final class ThreadsState: Sendable {
  private let state = Mutex<(next: Int, failure: (any Error)?)>((0, nil))

  var failure: (any Error)? { state.withLock { $0.failure } }

  func take(below count: Int) -> Int? {
    state.withLock { state in
      guard state.next < count, state.failure == nil else { return nil }
      defer { state.next += 1 }
      return state.next
    }
  }

  func fail(_ error: any Error) { state.withLock { $0.failure = $0.failure ?? error } }
}

extension TestGenerator {
  /// Bytes without a pattern.
  package mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 32) }
  }
}
