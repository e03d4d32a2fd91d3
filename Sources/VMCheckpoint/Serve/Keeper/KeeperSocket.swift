import CLinux
import Glibc
import SystemPackage

/// One end of the connection between a server and its keeper.
struct KeeperSocket {
  /// Where a process that was started finds its end.
  static let inherited: Int32 = 3

  let descriptor: Int32

  /// Two ends, both close-on-exec.
  static func pair() throws(VMCheckpointError) -> (KeeperSocket, KeeperSocket) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.unavailable, "cannot make a socket: \(code)").orOutOfResources(code)
    }
    return (KeeperSocket(descriptor: ends[0]), KeeperSocket(descriptor: ends[1]))
  }

  /// - Returns: Whether the other end is there.
  @discardableResult
  func send(_ message: KeeperMessage, _ attachment: Int32 = -1) -> Bool {
    let bytes = message.bytes
    while true {
      let count = clinux_send_with_fd(descriptor, bytes, bytes.count, attachment)
      if count == bytes.count { return true }
      guard count < 0, errno == EINTR else { return false }
    }
  }

  enum Received {
    case message(KeeperMessage, descriptor: Int32?)
    /// None waits.
    case nothing
    /// The other end is gone, or says what makes no sense.
    case end
  }

  /// The next message, if one waits.
  func receive() -> Received {
    var bytes = [UInt8](repeating: 0, count: KeeperMessage.byteCount)
    var attachment: Int32 = -1
    var attachmentCount: Int32 = 0
    while true {
      let count = clinux_receive_with_fds(
        descriptor,
        &bytes,
        bytes.count,
        0,
        &attachment,
        1,
        &attachmentCount
      )
      if count < 0, errno == EINTR { continue }
      if count < 0, errno == EAGAIN { return .nothing }
      let found = attachmentCount > 0 ? attachment : nil
      guard count > 0, let message = KeeperMessage(bytes) else {
        if let found { close(found) }
        return .end
      }
      return .message(message, descriptor: found)
    }
  }

  /// Waits up to `milliseconds` for a message, or the end.
  func wait(milliseconds: Int32) {
    var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    poll(&request, 1, milliseconds)
  }

  /// Starts a program that finds this end at ``inherited``.
  ///
  /// - Parameters:
  ///   - variable: Added to the environment.
  ///   - isDetached: Whether it is in a session of its own, so that no terminal's signals reach it.
  ///   - isSilent: Whether nothing that it prints goes anywhere, and no pipe of this process's stays open.
  func start(
    _ command: [String],
    variable: String? = nil,
    isDetached: Bool,
    isSilent: Bool = false
  ) throws(VMCheckpointError) -> pid_t {
    func check(_ result: Int32) throws(VMCheckpointError) {
      guard result == 0 else { throw Self.failure(result) }
    }
    let high = fcntl(descriptor, F_DUPFD_CLOEXEC, 10)
    guard high >= 0 else { throw Self.failure(errno) }
    defer { close(high) }
    var actions = posix_spawn_file_actions_t()
    try check(posix_spawn_file_actions_init(&actions))
    defer { posix_spawn_file_actions_destroy(&actions) }
    try check(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0))
    if isSilent {
      for number in [STDOUT_FILENO, STDERR_FILENO] {
        try check(
          posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_WRONLY, 0)
        )
      }
    }
    try check(posix_spawn_file_actions_adddup2(&actions, high, Self.inherited))
    var attributes = posix_spawnattr_t()
    try check(posix_spawnattr_init(&attributes))
    defer { posix_spawnattr_destroy(&attributes) }
    // A keeper ignores signals, and what it starts must not.
    var signals = sigset_t()
    sigemptyset(&signals)
    try check(posix_spawnattr_setsigmask(&attributes, &signals))
    sigfillset(&signals)
    try check(posix_spawnattr_setsigdefault(&attributes, &signals))
    var flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
    if isDetached { flags |= Int32(clinux_posix_spawn_setsid) }
    try check(posix_spawnattr_setflags(&attributes, Int16(flags)))
    let arguments = command.map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] = []
    var each = environ
    while let text = each.pointee {
      variables.append(strdup(text))
      each += 1
    }
    if let variable { variables.append(strdup(variable)) }
    variables.append(nil)
    defer { (arguments + variables).forEach { free($0) } }
    var pid = pid_t()
    try check(posix_spawn(&pid, command[0], &actions, &attributes, arguments, variables))
    return pid
  }

  private static func failure(_ code: Int32) -> VMCheckpointError {
    VMCheckpointError(
      .unavailable,
      "cannot start the process that keeps VMs when a server dies: \(Errno(rawValue: code))"
    ).orOutOfResources(Errno(rawValue: code))
  }
}
