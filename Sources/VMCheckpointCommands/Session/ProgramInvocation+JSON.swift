import Glibc
import Synchronization
import VMCheckpoint

extension ProgramInvocation {
  /// The running program, for signals to be passed on to; 0: there is none.
  private static let child = Atomic<Int32>(0)

  /// More of standard error is not kept.
  private static let maximumErrorByteCount = 64 << 10

  /// Runs the program and, when it fails, reports what it said as a JSON error.
  ///
  /// - Returns: How this process is to end, or `nil` when the program could not be started so.
  func runWithJSONErrors() -> CommandStatus? {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { return nil }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
    let argv = arguments.map { strdup($0) } + [nil]
    defer { for word in argv { free(word) } }
    var pid: pid_t = 0
    let code = posix_spawn(&pid, path, &actions, nil, argv, environ)
    close(ends[1])
    defer { close(ends[0]) }
    guard code == 0 else { return nil }
    Self.child.store(pid, ordering: .sequentiallyConsistent)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      signal(number) { number in
        let pid = ProgramInvocation.child.load(ordering: .sequentiallyConsistent)
        if pid > 0 { kill(pid, number) }
      }
    }
    let said = Self.contents(of: ends[0])
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    Self.child.store(0, ordering: .sequentiallyConsistent)
    let signalNumber = status & 0x7f
    guard signalNumber == 0 else { return .signal(signalNumber) }
    let exitCode = status >> 8 & 0xff
    let lines = String(decoding: said, as: UTF8.self).split(whereSeparator: \.isNewline)
      .map { $0.drop { $0 == " " } }.filter { !$0.isEmpty }
    let errors = OutputDescriptor(descriptor: STDERR_FILENO)
    if exitCode == 0 {
      try? errors.write(lines.map { "\(printable(String($0)))\n" }.joined())
    } else {
      // What follows the first line points into the statement with spaces, which one line cannot.
      var message = lines.first.map(String.init) ?? "\(arguments[0]) failed"
      for prefix in ["Error: ", "in prepare, "] where message.hasPrefix(prefix) {
        message.removeFirst(prefix.count)
      }
      try? errors.write(
        ErrorReport.json(message: "\(arguments[0]): \(message)", exitCode: exitCode)
      )
    }
    return .exit(exitCode)
  }

  /// All that comes from a pipe; what is beyond the limit is read and dropped.
  private static func contents(of descriptor: Int32) -> [UInt8] {
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(descriptor, &piece, piece.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return bytes }
      bytes += piece[..<min(count, maximumErrorByteCount - bytes.count)]
    }
  }
}
