import Glibc
import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointTestSupport

/// A program that uses the library does not end by SIGPIPE when whoever reads from it is gone.
@Suite struct BrokenPipeTests {
  /// Whether a SIGPIPE waits for this thread or this process.
  private static var isSignalPending: Bool {
    var pending = sigset_t()
    sigpending(&pending)
    return sigismember(&pending, SIGPIPE) == 1
  }

  private static func restoreToNobody(isSocket: Bool) throws {
    let directory = try TemporaryDirectory()
    let store = try Store.openOrCreate(at: directory.file("store.db"))
    try writeSparseFile(directory.file("ram"), sampleRAM(500))
    _ = try store.save(SaveRequest(input: .file(path: directory.file("ram")), name: "s"))
    var ends: [Int32] = [-1, -1]
    let result =
      isSocket ? socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) : pipe(&ends)
    #expect(result == 0)
    close(ends[0])
    let error = #expect(throws: VMCheckpointError.self) {
      try store.restore(
        RestoreRequest(
          reference: try SnapshotReference("s"),
          output: .stream(fileDescriptor: ends[1])
        )
      )
    }
    #expect(error?.code == .inputOutput)
    #expect(error?.message == "cannot write RAM to the stream: Broken pipe")
  }

  @Test func aRestoreToAPipeThatNobodyReadsIsAnError() async {
    await #expect(processExitsWith: .success) {
      signal(SIGPIPE, SIG_DFL)
      try Self.restoreToNobody(isSocket: false)
    }
  }

  @Test func aRestoreToASocketThatNobodyReadsIsAnError() async {
    await #expect(processExitsWith: .success) {
      signal(SIGPIPE, SIG_DFL)
      try Self.restoreToNobody(isSocket: true)
    }
  }

  /// The program may block the signal and look for it, and finds only its own.
  @Test func aProgramThatBlocksTheSignalFindsNone() async {
    await #expect(processExitsWith: .success) {
      signal(SIGPIPE, SIG_DFL)
      var blocked = sigset_t()
      sigemptyset(&blocked)
      sigaddset(&blocked, SIGPIPE)
      pthread_sigmask(SIG_BLOCK, &blocked, nil)
      try Self.restoreToNobody(isSocket: false)
      #expect(!Self.isSignalPending)
      raise(SIGPIPE)
      try Self.restoreToNobody(isSocket: false)
      #expect(Self.isSignalPending)
    }
  }

  /// The process that guards the VM was killed, by the kernel for want of memory for example.
  @Test func aSaveWhoseGuardWasKilledIsDone() async {
    await #expect(processExitsWith: .success) {
      signal(SIGPIPE, SIG_DFL)
      let directory = try TemporaryDirectory()
      let qemu = try FakeQEMU(in: directory) { command, _ in
        // Time for the guard to end.
        if command == "cont" { usleep(500_000) }
        return nil
      }
      let source = QEMULiveSource(
        socketPath: qemu.path,
        guardCommand: ["/bin/sh", "-c", "kill -9 $$", "sh"]
      )
      let store = try Store.openOrCreate(at: directory.file("store.db"))
      let result = try store.save(SaveRequest(input: .qemuLive(source), name: "s"))
      #expect(result.name == "s")
    }
  }
}
