import Glibc
import Synchronization
package import VMCheckpoint

/// Turns SIGINT, SIGTERM and SIGHUP into a request to stop.
package enum SignalWatch {
  /// The signals that ask a process to end.
  static let signals: [Int32] = [SIGINT, SIGTERM, SIGHUP]

  private static let cancellation = CancellationFlag()
  private static let received = Atomic<Int32>(0)

  /// The last signal that came while ``during(_:)`` ran.
  package static var receivedSignal: Int32? {
    let number = received.load(ordering: .relaxed)
    return number == 0 ? nil : number
  }

  /// Runs `body` with a flag that the signals set, and puts their actions back afterwards.
  ///
  /// - The flag lets an operation wait `lockWaitSeconds` for another program's lock.
  /// - A signal that the parent had set to be ignored, as `nohup` does, stays ignored.
  /// - System calls are interrupted and not restarted, so that a read from a pipe ends.
  /// - Each signal is caught once: a second one has its default action, and ends the process
  ///   at once.
  package static func during<Result>(
    lockWaitSeconds: Double = CancellationFlag.defaultLockWaitSeconds,
    _ body: (CancellationFlag) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    // The globals are made before a handler can run: making them takes a lock.
    let flag = cancellation
    flag.lockWaitSeconds = lockWaitSeconds
    received.store(0, ordering: .relaxed)

    var previous: [(signal: Int32, action: sigaction)] = []
    defer {
      for (number, action) in previous {
        var action = action
        sigaction(number, &action, nil)
      }
    }
    for number in signals {
      var old = sigaction()
      sigaction(number, nil, &old)
      guard !old.isIgnored else { continue }
      var new = sigaction()
      new.__sigaction_handler.sa_handler = { number in
        // Two atomic stores: nothing else is safe here.
        SignalWatch.received.store(number, ordering: .relaxed)
        SignalWatch.cancellation.cancel()
      }
      new.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
      sigemptyset(&new.sa_mask)
      sigaction(number, &new, nil)
      previous.append((number, old))
    }
    return try body(flag)
  }

  /// Lets writing to a pipe without a reader fail with EPIPE, and writing beyond the limit for a
  /// file's size (`ulimit -f`) with EFBIG, instead of ending the process in the midst of its work.
  static func ignoreWriteFailures() {
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
  }
}
