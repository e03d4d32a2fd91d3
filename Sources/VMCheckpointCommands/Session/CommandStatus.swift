import Glibc

/// How the process ends.
package enum CommandStatus: Hashable, Sendable {
  case exit(Int32)

  /// By a signal's default action, so that the shell, and whoever else waits, learns that the
  /// command was interrupted and did not fail by itself.
  case signal(Int32)

  /// What a shell shows as `$?`.
  package var shellCode: Int32 {
    switch self {
    case .exit(let code): code
    case .signal(let number): 128 + number
    }
  }

  /// Ends the process.
  package func endProcess() -> Never {
    if case .signal(let number) = self {
      Glibc.signal(number, SIG_DFL)
      var unblocked = sigset_t()
      sigemptyset(&unblocked)
      sigaddset(&unblocked, number)
      pthread_sigmask(SIG_UNBLOCK, &unblocked, nil)
      raise(number)
    }
    Glibc.exit(shellCode)
  }
}
