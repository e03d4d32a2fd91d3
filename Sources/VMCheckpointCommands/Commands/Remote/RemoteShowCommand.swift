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
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return (
        place.remote,
        try place.store.remoteSnapshots(place.remote, place.transport, control: place.control)
          .filter { vm == nil || $0.summary.vm == vm }
      )
    }
    return RemoteShowOutput(result.0, result.1, ofVM: vm, warnings: warnings)
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
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return (
        place.remote,
        try place.store.remoteStatistics(place.remote, place.transport, control: place.control)
      )
    }
    return RemoteStatsOutput(result.0, result.1, warnings: warnings)
  }
}
