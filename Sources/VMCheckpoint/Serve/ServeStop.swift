import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Asks the threads of a server to end. Its descriptor can be read from then on, so that a `poll` returns.
final class ServeStop: Sendable {
  private let requested = Atomic<Bool>(false)
  private let reader: Int32
  private let writer: Mutex<Int32>

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init() throws(VMCheckpointError) {
    var pipe: [Int32] = [-1, -1]
    guard clinux_pipe(&pipe) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.inputOutput, "cannot make a pipe: \(code)").orOutOfResources(code)
    }
    reader = pipe[0]
    writer = Mutex(pipe[1])
  }

  deinit {
    request()
    close(reader)
  }

  var isRequested: Bool { requested.load(ordering: .acquiring) }

  var descriptor: Int32 { reader }

  func request() {
    requested.store(true, ordering: .releasing)
    writer.withLock {
      if $0 >= 0 { close($0) }
      $0 = -1
    }
  }
}
