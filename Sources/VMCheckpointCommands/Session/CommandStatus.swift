import Glibc

/// How the process ends.
package enum CommandStatus: Hashable, Sendable {
  case exit(Int32)

  /// By a signal's default action, so that the shell, or another process that waits, learns that
  /// the command was interrupted and did not fail by itself.
  case signal(Int32)

  /// By another program that takes the process over, with its end for ours.
  case program(ProgramInvocation)

  /// What a shell shows as `$?`; of another program, before it has run, 0.
  package var shellCode: Int32 {
    switch self {
    case .exit(let code): code
    case .signal(let number): 128 + number
    case .program: 0
    }
  }

  /// Ends the process.
  package func endProcess() -> Never {
    if case .program(let program) = self { program.takeOver() }
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
