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
    do throws(Errno) {
      process = try Self.spawn(command, input: source.descriptor, output: ends[1])
    } catch {
      close(ends[0])
      close(ends[1])
      guard error == .noSuchFileOrDirectory else {
        throw VMCheckpointError(.outOfResources, "cannot start \(command[0]): \(error)")
      }
      throw VMCheckpointError(
        .unavailable,
        "the program \(command[0]) is missing",
        hint: "install it, as with: apt-get install \(package)"
      )
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

  private static func spawn(
    _ command: [String],
    input: Int32,
    output: Int32
  ) throws(Errno) -> pid_t {
    func check(_ code: Int32) throws(Errno) {
      guard code == 0 else { throw Errno(rawValue: code) }
    }
    var actions = posix_spawn_file_actions_t()
    try check(posix_spawn_file_actions_init(&actions))
    defer { posix_spawn_file_actions_destroy(&actions) }
    try check(posix_spawn_file_actions_adddup2(&actions, input, 0))
    try check(posix_spawn_file_actions_adddup2(&actions, output, 1))
    try check(posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0))
    var attributes = posix_spawnattr_t()
    try check(posix_spawnattr_init(&attributes))
    defer { posix_spawnattr_destroy(&attributes) }
    // Ends by SIGPIPE when nobody reads, whatever this process does with that signal.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGPIPE)
    try check(posix_spawnattr_setsigdefault(&attributes, &signals))
    var none = sigset_t()
    sigemptyset(&none)
    try check(posix_spawnattr_setsigmask(&attributes, &none))
    try check(
      posix_spawnattr_setflags(
        &attributes,
        Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK)
      )
    )
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var process = pid_t()
    try check(posix_spawnp(&process, command[0], &actions, &attributes, arguments, environ))
    return process
  }
}
