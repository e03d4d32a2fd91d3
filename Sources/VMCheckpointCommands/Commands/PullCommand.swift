import ArgumentParser
import VMCheckpoint

/// `vmckpt pull`.
struct PullCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "pull",
    abstract: "Bring snapshots, with all of their pages, from a remote.",
    usage: "vmckpt pull <ref>... [--from <remote>] [<options>]",
    discussion: """
      Pages that the store has already do not come again. Each page is checked by its SHA-256 \
      before it is stored. A pull that was interrupted goes on where it was.

      EXAMPLES:
        vmckpt pull web/before-upgrade
        vmckpt pull latest --from nas
      """
  )

  @Argument(help: ArgumentHelp("The snapshots, by name or UUID.", valueName: "ref"))
  var references: [String]

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Which of the store's remotes. (default: the only one, else origin)",
      valueName: "remote"
    )
  )
  var from: String?

  @Option(
    name: .long,
    help: ArgumentHelp("What the snapshot is called here.", valueName: "name")
  )
  var name: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Requests at a time, 1 to 8. (default: 4, or one a core)",
      valueName: "count"
    )
  )
  var threads: Int?

  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the pull is done" }

  func validate() throws {
    if let threads, !(1...8).contains(threads) { throw ValidationError("expected 1 to 8 threads") }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> PullOutput {
    let operation = RemoteOperation(
      session: session,
      common: common,
      arguments: arguments,
      name: from,
      purpose: .writing,
      // Each waits for the server half of its time.
      threadCount: threads ?? max(4, OperationControl().threadCount)
    )
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return try place.store.pull(
        references,
        as: name,
        from: place.remote,
        place.transport,
        withData: true,
        control: place.control
      )
    }
    return PullOutput(result, warnings: warnings)
  }
}
