import VMCheckpoint

/// The surroundings of an operation that takes time: signals stop it, a bar shows how far it is,
/// and its warnings reach the user.
struct LongOperation {
  var session: CommandSession
  var common: CommonOptions

  /// `nil`: one a core.
  var threadCount: Int?

  /// Runs `body` and returns what it returned with the warnings it gave.
  ///
  /// Warnings are also printed at once, unless the result is JSON, which has a place for them.
  func run<Result>(
    _ body: (OperationControl) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> (result: Result, warnings: [String]) {
    let console = OperationConsole(
      descriptor: session.standardError,
      showsProgress: session.showsProgress && !common.json && !common.noProgress,
      printsWarnings: !common.json
    )
    defer { console.finish() }
    let result: Result
    if session.handlesSignals {
      result = try SignalWatch.during(lockWaitSeconds: common.lockWaitSeconds) {
        (flag: CancellationFlag) throws(VMCheckpointError) -> Result in
        try body(control(flag, console))
      }
    } else {
      result = try body(control(common.waiting, console))
    }
    return (result, console.warnings)
  }

  private func control(
    _ cancellation: CancellationFlag,
    _ console: OperationConsole
  ) -> OperationControl {
    var control = OperationControl(cancellation: cancellation, threadCount: threadCount)
    control.onWarning = { console.warn($0) }
    if console.showsProgress {
      control.onProgress = {
        console.report(
          phase: $0.phase,
          completedByteCount: $0.completedByteCount,
          totalByteCount: $0.totalByteCount
        )
      }
    }
    return control
  }
}
