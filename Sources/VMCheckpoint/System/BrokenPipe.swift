import Glibc

/// Writing to pipes and sockets whose reader may be gone.
package enum BrokenPipe {
  /// Runs `body`, in which writing to a pipe or socket that nobody reads fails with `EPIPE` and sends no
  /// SIGPIPE. That signal ends a program which has not asked to ignore it, and a library must not decide
  /// for the whole process what its action is.
  ///
  /// Such a SIGPIPE is for the thread that writes: it is blocked here, and taken away when it has come.
  package static func withoutSignal<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var pending = sigset_t()
    sigpending(&pending)
    // One that waits already is the program's own, and blocked, so that another changes nothing.
    guard sigismember(&pending, SIGPIPE) == 0 else { return try body() }
    var pipeSignal = sigset_t()
    sigemptyset(&pipeSignal)
    sigaddset(&pipeSignal, SIGPIPE)
    var previous = sigset_t()
    pthread_sigmask(SIG_BLOCK, &pipeSignal, &previous)
    defer {
      var noTime = timespec()
      while sigtimedwait(&pipeSignal, nil, &noTime) < 0, errno == EINTR {}
      pthread_sigmask(SIG_SETMASK, &previous, nil)
    }
    return try body()
  }
}
