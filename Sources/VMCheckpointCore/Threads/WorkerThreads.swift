import Glibc

/// Threads of an operation's own, for work that computes and blocks, which Swift's cooperative
/// pool is not made for.
package struct WorkerThreads {
  private final class Start {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private var threads: [pthread_t] = []

  /// Starts up to `count` threads that each run `body` once. Fewer, but at least one, when the
  /// system has no more to give.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources` when not even one could be started.
  package init(count: Int, _ body: @escaping @Sendable () -> Void) throws(VMCheckpointError) {
    // A worker must not take the signals that are to interrupt the main thread's system calls.
    var blocked = sigset_t()
    var previous = sigset_t()
    sigfillset(&blocked)
    // One that an access to memory causes is not taken by another thread: blocked, it would end the process.
    sigdelset(&blocked, SIGBUS)
    pthread_sigmask(SIG_SETMASK, &blocked, &previous)
    defer { pthread_sigmask(SIG_SETMASK, &previous, nil) }
    var failure = EAGAIN
    for _ in 0..<count {
      var thread = pthread_t()
      let start = Unmanaged.passRetained(Start(body))
      let result = pthread_create(
        &thread,
        nil,
        { argument in
          Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()
          return nil
        },
        start.toOpaque()
      )
      guard result == 0 else {
        start.release()
        failure = result
        break
      }
      threads.append(thread)
    }
    guard !threads.isEmpty else { throw .noThread(errorNumber: failure) }
  }

  /// Waits for every thread's `body` to return. Call exactly once.
  package func join() {
    for thread in threads { pthread_join(thread, nil) }
  }
}

extension VMCheckpointError {
  /// No thread could be made.
  fileprivate static func noThread(errorNumber: Int32) -> VMCheckpointError {
    VMCheckpointError(
      .outOfResources,
      "cannot start a thread: \(String(cString: strerror(errorNumber)))",
      hint: "raise the limit on processes (ulimit -u, or the container's), or on memory (ulimit -v)"
    )
  }
}
