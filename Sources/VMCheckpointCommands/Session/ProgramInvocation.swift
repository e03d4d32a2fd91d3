import Glibc

/// A program with its arguments, for this process to become.
package struct ProgramInvocation: Hashable, Sendable {
  /// The file to execute.
  package var path: String
  /// The first is the program's name.
  package var arguments: [String]
  /// Whether what it writes on standard error becomes a JSON error, when it fails.
  package var reportsErrorsAsJSON = false

  /// Executes the program in place of this process: signals and the exit code are its own from then
  /// on. Ends the process when that is not possible.
  ///
  /// What the program writes holds guests' memory, so that files it creates are their owner's only.
  func takeOver() -> Never {
    umask(0o077)
    // Ignored signals stay so through exec; a reader that goes away must end the program.
    signal(SIGPIPE, SIG_DFL)
    for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO]
    where !Self.makeBlocking(descriptor) {
      try? OutputDescriptor(descriptor: STDERR_FILENO).write(
        "vmckpt: descriptor \(descriptor) is a socket that does not block, which \(arguments[0]) cannot use; "
          + "put a pipe between\n"
      )
      Glibc.exit(SysExit.unavailable)
    }
    if reportsErrorsAsJSON, let status = runWithJSONErrors() { status.endProcess() }
    let argv = arguments.map { strdup($0) } + [nil]
    execv(path, argv)
    let reason = systemErrorText(errno)
    try? OutputDescriptor(descriptor: STDERR_FILENO)
      .write("vmckpt: cannot run \(printable(path)): \(reason)\n")
    Glibc.exit(SysExit.unavailable)
  }

  /// Gives this process a pipe or terminal that blocks in place of one that does not: programs that use
  /// stdio lose what it does not take at once. Processes that share the descriptor find it as it was.
  ///
  /// - Returns: Whether programs can use the descriptor.
  private static func makeBlocking(_ descriptor: Int32) -> Bool {
    let flags = fcntl(descriptor, F_GETFL)
    var status = stat()
    guard flags >= 0, flags & O_NONBLOCK != 0, fstat(descriptor, &status) == 0 else { return true }
    switch status.st_mode & S_IFMT {
    case S_IFIFO, S_IFCHR:
      // Opened anew, it has flags of its own.
      let opened = open("/proc/self/fd/\(descriptor)", flags & O_ACCMODE | O_NOCTTY | O_CLOEXEC)
      guard opened >= 0 else { return false }
      defer { close(opened) }
      return dup2(opened, descriptor) >= 0
    case S_IFSOCK: return false
    default: return true
    }
  }

  /// The first executable file called `name` in the directories of `searchPath`, which colons
  /// separate as in `PATH`. Relative directories are left out: they would run what somebody put
  /// into the user's current directory.
  static func find(_ name: String, searchPath: String) -> String? {
    searchPath.utf8.split(separator: UInt8(ascii: ":")).lazy
      .filter { $0.first == UInt8(ascii: "/") }
      .map { "\(String(decoding: $0, as: UTF8.self))/\(name)" }
      .first { isFile($0) && access($0, X_OK) == 0 }
  }

  /// Whether there is a regular file at `path`.
  static func isFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  /// The directory of this process's executable, if `/proc` shows it.
  static var ownDirectory: String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    let count = readlink("/proc/self/exe", &buffer, Int(PATH_MAX))
    guard count > 0 else { return nil }
    let path = String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
    return path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) }
  }
}
