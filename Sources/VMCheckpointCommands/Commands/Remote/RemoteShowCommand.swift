import ArgumentParser
import VMCheckpoint

/// `vmckpt remote show`.
struct RemoteShowCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "List the snapshots of a remote.",
    usage: "vmckpt remote show [--vm <vm>] [<options>]",
    discussion: """
      EXAMPLES:
        vmckpt remote show
        vmckpt remote show --vm web --json
      """
  )

  @Option(name: .long, help: ArgumentHelp("Only those of this VM.", valueName: "vm"))
  var vm: String?

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteShowOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let store = try Store.open(at: storePath, cancellation: control.cancellation)
      let (remote, transport) = try store.open(
        remote: choice.remote,
        arguments.access,
        control: control
      )
      return (
        remote,
        try store.remoteSnapshots(remote, transport, control: control)
          .filter { vm == nil || $0.head.facts.vm == vm }
      )
    }
    return RemoteShowOutput(result.0, result.1, warnings: warnings)
  }
}

/// `vmckpt remote stats`.
struct RemoteStatsCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Show what a remote holds.",
    usage: "vmckpt remote stats [<options>]"
  )

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteStatsOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let store = try Store.open(at: storePath, cancellation: control.cancellation)
      let (remote, transport) = try store.open(
        remote: choice.remote,
        arguments.access,
        control: control
      )
      return (remote, try store.remoteStatistics(remote, transport, control: control))
    }
    return RemoteStatsOutput(result.0, result.1, warnings: warnings)
  }
}
