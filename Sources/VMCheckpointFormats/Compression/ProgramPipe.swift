import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// Decodes what follows in a file or stream by a program, for what no library decodes.
final class ProgramPipe: DecodingPipe {
  /// How long a program may take to end once nobody reads its output.
  private static let patienceSeconds = 2.0

  let descriptor: Int32
  private let process: pid_t
  private let program: String
  private let name: String

  /// Starts a program that reads from `source`, whose descriptor stays the caller's, and writes to
  /// ``descriptor``.
  ///
  /// - Parameters:
  ///   - command: The program, which PATH finds, and its arguments.
  ///   - package: Debian's package of it.
  /// - Throws: ``VMCheckpointError``: `unavailable` when there is no such program, `outOfResources`.
  init(
    _ command: [String],
    package: String,
    from source: StreamReader
  ) throws(VMCheckpointError) {
    program = command[0]
    name = source.name
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      throw VMCheckpointError(.outOfResources, "cannot make a pipe: \(Errno(rawValue: errno))")
    }
    do throws(VMCheckpointError) {
      process = try ChildProgram.start(
        command,
        package: package,
        streams: .init(input: source.descriptor, output: ends[1])
      )
    } catch {
      close(ends[0])
      close(ends[1])
      throw error
    }
    close(ends[1])
    descriptor = ends[0]
  }

  func finish() -> VMCheckpointError? {
    close(descriptor)
    var status: Int32 = 0
    let deadline = MonotonicClock.nowSeconds + Self.patienceSeconds
    var isKilled = false
    while true {
      let ended = waitpid(process, &status, isKilled ? 0 : WNOHANG)
      if ended == process { break }
      if ended < 0, errno != EINTR { return nil }
      if !isKilled, MonotonicClock.nowSeconds > deadline {
        // It waits for input that nobody wants any more.
        kill(process, SIGKILL)
        isKilled = true
      } else if !isKilled {
        usleep(2000)
      }
    }
    // By a signal: because nobody read, or because it was killed here.
    guard status & 0x7f == 0, status >> 8 & 0xff != 0 else { return nil }
    return .invalidData("\(name): \(program) cannot decompress it: its data is damaged")
  }
}
