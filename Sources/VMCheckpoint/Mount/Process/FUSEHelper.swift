import CLinux
import Glibc
import SystemPackage

/// The program `fusermount3`, which mounts for users who are not root.
enum FUSEHelper {
  private static let program = "fusermount3"
  /// Where the program finds the socket through which it gives the device back.
  private static let socketVariable = "_FUSE_COMMFD"
  private static let inherited: Int32 = 3

  /// Whether PATH has the program.
  static var isThere: Bool {
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
  }

  /// Mounts on `path`, and returns the descriptor from which requests are read.
  static func mount(on path: String, allowsOthers: Bool) throws(VMCheckpointError) -> Int32 {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.unavailable, "cannot make a socket: \(code)").orOutOfResources(code)
    }
    defer { close(ends[0]) }
    let options =
      "fsname=vmckpt,subtype=vmckpt,nodev,nosuid,default_permissions"
      + (allowsOthers ? ",allow_other" : "")
    let outcome: (succeeded: Bool, message: String)
    do throws(VMCheckpointError) {
      outcome = try run(["-o", options, "--", path], socket: ends[1])
      close(ends[1])
    } catch {
      close(ends[1])
      throw error
    }
    var byte: UInt8 = 0
    var descriptor: Int32 = -1
    var count: Int32 = 0
    // The program has ended: what it sent is there.
    let received = clinux_receive_with_fds(ends[0], &byte, 1, 0, &descriptor, 1, &count)
    guard outcome.succeeded, received > 0, count == 1 else {
      throw VMCheckpointError(
        .permissionDenied,
        "cannot mount on directory \(quotedName(path)): \(outcome.message)",
        hint: allowsOthers
          ? "--allow-other needs the line user_allow_other in /etc/fuse.conf" : nil
      )
    }
    return descriptor
  }

  static func unmount(_ path: String, isLazy: Bool) throws(VMCheckpointError) {
    let outcome = try run(["-u"] + (isLazy ? ["-z"] : []) + ["--", path], socket: nil)
    guard !outcome.succeeded else { return }
    if outcome.message.contains("busy") { throw MountPoint.busy(path) }
    throw VMCheckpointError(
      .permissionDenied,
      "cannot take away the mount \(quotedName(path)): \(outcome.message)"
    )
  }

  /// Runs the program to its end.
  ///
  /// - Returns: Whether it succeeded, and the first line that it has printed.
  private static func run(
    _ arguments: [String],
    socket: Int32?
  ) throws(VMCheckpointError) -> (succeeded: Bool, message: String) {
    var pipe: [Int32] = [-1, -1]
    guard clinux_pipe(&pipe) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.unavailable, "cannot make a pipe: \(code)").orOutOfResources(code)
    }
    defer { close(pipe[0]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, pipe[1], 2)
    var high: Int32 = -1
    if let socket {
      // A descriptor that is where it is to be already would stay close-on-exec.
      high = fcntl(socket, F_DUPFD_CLOEXEC, 10)
      posix_spawn_file_actions_adddup2(&actions, high, inherited)
    }
    defer { if high >= 0 { close(high) } }
    let argv = ([program] + arguments).map { strdup($0) } + [nil]
    var variables = ["LC_ALL=C", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
    if socket != nil { variables.append("\(socketVariable)=\(inherited)") }
    let envp = variables.map { strdup($0) } + [nil]
    defer { (argv + envp).forEach { free($0) } }
    var process = pid_t()
    let result = posix_spawnp(&process, program, &actions, nil, argv, envp)
    close(pipe[1])
    guard result == 0 else {
      throw VMCheckpointError(
        .unavailable,
        "the program \(program), which mounts for users who are not root, is missing",
        hint: "install it, as with: apt-get install fuse3"
      )
    }
    var text: [UInt8] = []
    var bytes = [UInt8](repeating: 0, count: 1024)
    while true {
      let count = read(pipe[0], &bytes, bytes.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      if text.count < 4096 { text += bytes[..<count] }
    }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    let line = String(decoding: text.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    return (status == 0, line.isEmpty ? "\(program) failed" : line)
  }
}
