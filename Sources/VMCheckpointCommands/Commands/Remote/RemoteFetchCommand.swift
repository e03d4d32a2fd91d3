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
      never come over the network. A snapshot that is here gets a working set that was recorded \
      elsewhere since.

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
    let operation = choice.operation(in: session, common, arguments, for: .writing)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return try place.store.pull(
        references,
        as: name,
        from: place.remote,
        place.transport,
        withData: false,
        control: place.control
      )
    }
    return PullOutput(result, warnings: warnings)
  }
}
