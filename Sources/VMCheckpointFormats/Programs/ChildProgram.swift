import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// Starts programs of others: found in PATH, without a shell.
enum ChildProgram {
  /// Where a program's standard streams come from and go to; `nil`: `/dev/null`.
  struct Streams {
    var input: Int32?
    var output: Int32?
    var error: Int32?
  }

  /// Starts `command`. The program ends by SIGPIPE when nobody reads, whatever this process does with that
  /// signal.
  ///
  /// - Parameters:
  ///   - command: The program, which PATH finds, and its arguments.
  ///   - package: Debian's package of it.
  ///   - hasOwnSession: Whether the keys of this process's terminal, such as Ctrl-C, are not the program's.
  ///   - environment: Variables, as `NAME=VALUE`, that take the place of inherited ones.
  /// - Throws: ``VMCheckpointError``: `unavailable` when there is no such program, `outOfResources`.
  static func start(
    _ command: [String],
    package: String,
    streams: Streams,
    hasOwnSession: Bool = false,
    environment: [String] = []
  ) throws(VMCheckpointError) -> pid_t {
    do throws(Errno) {
      return try spawn(command, streams, hasOwnSession, Self.environment(with: environment))
    } catch {
      guard error == .noSuchFileOrDirectory else {
        throw VMCheckpointError(.outOfResources, "cannot start \(command[0]): \(error)")
      }
      throw VMCheckpointError(
        .unavailable,
        "the program \(command[0]) is missing",
        hint: "install it, as with: apt-get install \(package)"
      )
    }
  }

  private static func environment(with variables: [String]) -> [String] {
    let names = variables.map { $0.prefix { $0 != "=" } + "=" }
    var result = variables
    var next = environ
    while let variable = next.pointee {
      let text = String(cString: variable)
      if !names.contains(where: { text.hasPrefix($0) }) { result.append(text) }
      next += 1
    }
    return result
  }

  private static func spawn(
    _ command: [String],
    _ streams: Streams,
    _ hasOwnSession: Bool,
    _ environment: [String]
  ) throws(Errno) -> pid_t {
    func check(_ code: Int32) throws(Errno) {
      guard code == 0 else { throw Errno(rawValue: code) }
    }
    var actions = posix_spawn_file_actions_t()
    try check(posix_spawn_file_actions_init(&actions))
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, descriptor) in [streams.input, streams.output, streams.error].enumerated() {
      if let descriptor {
        try check(posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(number)))
      } else {
        let flags = number == 0 ? O_RDONLY : O_WRONLY
        try check(posix_spawn_file_actions_addopen(&actions, Int32(number), "/dev/null", flags, 0))
      }
    }
    var attributes = posix_spawnattr_t()
    try check(posix_spawnattr_init(&attributes))
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    try check(posix_spawnattr_setsigmask(&attributes, &signals))
    sigaddset(&signals, SIGPIPE)
    try check(posix_spawnattr_setsigdefault(&attributes, &signals))
    var flags = Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK)
    if hasOwnSession { flags |= Int16(clinux_posix_spawn_setsid) }
    try check(posix_spawnattr_setflags(&attributes, flags))
    let arguments = command.map { strdup($0) } + [nil]
    let variables = environment.map { strdup($0) } + [nil]
    defer { for text in arguments + variables { free(text) } }
    guard !arguments.dropLast().contains(nil), !variables.dropLast().contains(nil) else {
      throw .noMemory
    }
    var process = pid_t()
    try check(posix_spawnp(&process, command[0], &actions, &attributes, arguments, variables))
    return process
  }
}
