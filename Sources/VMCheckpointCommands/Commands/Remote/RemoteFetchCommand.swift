import ArgumentParser
import VMCheckpoint

/// `vmckpt remote fetch`.
struct RemoteFetchCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "fetch",
    abstract: "Make rows of the store of a remote's snapshots, without their pages.",
    usage: "vmckpt remote fetch [<ref>...] [<options>]",
    discussion: """
      Without a REF all snapshots are fetched. 'list', 'show', 'diff' and the plain sqlite3 shell \
      answer about them then; 'vmckpt pull' brings the pages. Pages that the store has already \
      never come over the network.

      EXAMPLES:
        vmckpt remote fetch
        vmckpt remote fetch web/before-upgrade --name web/theirs
      """
  )

  @Argument(help: ArgumentHelp("The snapshots, by name or UUID.", valueName: "ref"))
  var references: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp("What the snapshot is called here.", valueName: "name")
  )
  var name: String?

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the snapshots are fetched" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> PullOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let store = try Store.open(
        at: storePath,
        for: .writing,
        cancellation: control.cancellation
      )
      let (remote, transport) = try store.open(
        remote: choice.remote,
        arguments.access,
        control: control
      )
      return try store.pull(
        references,
        as: name,
        from: remote,
        transport,
        withData: false,
        control: control
      )
    }
    return PullOutput(result, warnings: warnings)
  }
}
