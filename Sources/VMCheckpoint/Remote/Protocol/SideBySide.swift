import Synchronization

/// Requests side by side: most of each is waiting for the server.
enum SideBySide {
  private static let threadCount = 8

  /// What `body` makes of each item, in the items' order. Keep them few: all results are in memory.
  ///
  /// - Throws: What `body` throws, or ``VMCheckpointError`` with the code `outOfResources`.
  static func map<Item: Sendable, Output: Sendable>(
    _ items: [Item],
    _ body: @escaping @Sendable (Item) throws(VMCheckpointError) -> Output
  ) throws(VMCheckpointError) -> [Output] {
    if items.count < 2 {
      var outputs: [Output] = []
      for item in items { outputs.append(try body(item)) }
      return outputs
    }
    let shared = Shared<Output>(count: items.count)
    let threads = try WorkerThreads(count: min(threadCount, items.count)) {
      while let index = shared.next() {
        do throws(VMCheckpointError) {
          shared.finish(index, .success(try body(items[index])))
        } catch {
          shared.finish(index, .failure(error))
        }
      }
    }
    threads.join()
    return try shared.outputs()
  }

  private struct State<Output: Sendable> {
    var outputs: [Output?]
    var nextIndex = 0
    var failure: VMCheckpointError?
  }

  private final class Shared<Output: Sendable>: Sendable {
    private let state: Mutex<State<Output>>

    init(count: Int) { state = Mutex(State(outputs: Array(repeating: nil, count: count))) }

    func next() -> Int? {
      state.withLock { state in
        guard state.failure == nil, state.nextIndex < state.outputs.count else { return nil }
        defer { state.nextIndex += 1 }
        return state.nextIndex
      }
    }

    func finish(_ index: Int, _ result: Result<Output, VMCheckpointError>) {
      state.withLock { state in
        switch result {
        case .success(let output): state.outputs[index] = output
        case .failure(let error): state.failure = state.failure ?? error
        }
      }
    }

    func outputs() throws(VMCheckpointError) -> [Output] {
      let (outputs, failure) = state.withLock { ($0.outputs, $0.failure) }
      if let failure { throw failure }
      return outputs.map { $0! }
    }
  }
}
