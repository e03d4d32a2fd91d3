import Glibc

/// Keeps a guest's memory, which passes through this process, out of what a crash leaves behind.
package enum CrashSecrecy {
  /// The signals that Swift's runtime catches, before `main`, to print a backtrace with registers
  /// and the memory that they point to, where `SWIFT_BACKTRACE` asks for it.
  private static let crashSignals: [Int32] = [
    SIGQUIT, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP,
  ]

  /// Gives signals that mean a crash their default action, and sees to it that there is no core.
  /// Call before anything reads a guest's memory.
  package static func enforce() {
    for number in crashSignals {
      var action = sigaction()
      // What the parent had set to be ignored, as shells do for SIGQUIT of what runs in the
      // background, stays ignored: the runtime has left it alone.
      guard sigaction(number, nil, &action) == 0, !action.isIgnored else { continue }
      signal(number, SIG_DFL)
    }
    forbidCore()
  }

  /// A limit of one byte is too small for any file, and means to Linux that a core is not piped to
  /// a program either, as systemd and others set that up; a limit of 0 would leave the latter to
  /// the program's manners. The process stays open to debuggers and profilers.
  private static func forbidCore() {
    var limit = rlimit()
    let resource = __rlimit_resource_t(RLIMIT_CORE.rawValue)
    guard getrlimit(resource, &limit) == 0 else { return }
    limit.rlim_cur = min(1, limit.rlim_max)
    setrlimit(resource, &limit)
  }
}

extension sigaction {
  /// Whether the signal is set to be ignored.
  var isIgnored: Bool {
    unsafeBitCast(__sigaction_handler.sa_handler, to: Int.self)
      == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
