import Glibc
import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointTestSupport

/// Signals belong to a process, so each of these tests runs in one of its own.
@Suite struct SignalTests {
  @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
  func aSignalCancelsAndIsRemembered(number: Int32) async {
    await #expect(processExitsWith: .success) { [number] in
      unblockSignals()
      try SignalWatch.during { (flag: CancellationFlag) throws(VMCheckpointError) in
        raise(number)
        guard flag.isCancelled, SignalWatch.receivedSignal == number else { exit(1) }
      }
    }
  }

  @Test func aSecondSignalEndsTheProcess() async {
    await #expect(processExitsWith: .signal(SIGINT)) {
      unblockSignals()
      try SignalWatch.during { (_: CancellationFlag) throws(VMCheckpointError) in
        raise(SIGINT)
        raise(SIGINT)
      }
    }
  }

  @Test func afterwardsASignalHasItsDefaultAction() async {
    await #expect(processExitsWith: .signal(SIGTERM)) {
      unblockSignals()
      try SignalWatch.during { (_: CancellationFlag) throws(VMCheckpointError) in }
      raise(SIGTERM)
    }
  }

  @Test func anIgnoredSignalStaysIgnored() async {
    await #expect(processExitsWith: .success) {
      unblockSignals()
      signal(SIGHUP, SIG_IGN)
      try SignalWatch.during { (flag: CancellationFlag) throws(VMCheckpointError) in
        raise(SIGHUP)
        guard !flag.isCancelled, SignalWatch.receivedSignal == nil else { exit(1) }
      }
    }
  }

  /// A read from a pipe ends, so that a save from one can be interrupted.
  @Test func systemCallsAreNotRestarted() async {
    await #expect(processExitsWith: .success) {
      unblockSignals()
      try SignalWatch.during { (_: CancellationFlag) throws(VMCheckpointError) in
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        alarm(120)
        let main = pthread_self()
        var thread = pthread_t()
        let box = Unmanaged.passRetained(
          ThreadBox(main, place: readLink("/proc/thread-self") ?? "")
        )
        pthread_create(
          &thread,
          nil,
          { context in
            let reader = Unmanaged<ThreadBox>.fromOpaque(context!).takeRetainedValue()
            // It sleeps nowhere else for so long as in the read.
            var looks = 0
            while looks < 20 {
              looks = reader.isAsleep ? looks + 1 : 0
              usleep(5000)
            }
            pthread_kill(reader.id, SIGINT)
            return nil
          },
          box.toOpaque()
        )
        var byte: UInt8 = 0
        guard read(ends[0], &byte, 1) == -1, errno == EINTR else { exit(1) }
      }
    }
  }

  @Test func aStatusEndsTheProcess() async {
    await #expect(processExitsWith: .exitCode(65)) { CommandStatus.exit(65).endProcess() }
    await #expect(processExitsWith: .signal(SIGTERM)) {
      var blocked = sigset_t()
      sigfillset(&blocked)
      pthread_sigmask(SIG_BLOCK, &blocked, nil)
      signal(SIGTERM, SIG_IGN)
      CommandStatus.signal(SIGTERM).endProcess()
    }
  }
}

/// Tests run on threads of libdispatch, which block signals.
private func unblockSignals() {
  var all = sigset_t()
  sigfillset(&all)
  pthread_sigmask(SIG_UNBLOCK, &all, nil)
}

private final class ThreadBox: Sendable {
  let id: pthread_t
  /// The folder of the thread below `/proc`.
  private let place: String

  init(_ id: pthread_t, place: String) { (self.id, self.place) = (id, place) }

  var isAsleep: Bool {
    // The letter follows the name in brackets.
    guard let stat = try? readFile(procFile: "/proc/\(place)/stat"),
      let bracket = stat.lastIndex(of: ")")
    else { return false }
    return stat[bracket...].dropFirst(2).first == "S"
  }
}
