import ArgumentParser
import VMCheckpoint

/// `vmckpt push`.
struct PushCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "push",
    abstract: "Copy snapshots to a remote, where other hosts find them.",
    usage: """
      vmckpt push <ref>... [--to <remote>] [<options>]
      vmckpt push --all [--vm <name>] [--to <remote>] [<options>]
      """,
    discussion: """
      Only pages that the remote does not have are sent, whoever pushed them. A snapshot is there \
      for others when all of it is; a push that was interrupted goes on where it was. Saves and gc \
      of this store go on meanwhile. A snapshot that is there already gets the working set that was \
      recorded here after it was pushed. With --all, what was deleted in the remote alone goes there \
      again.

      A snapshot that cannot be pushed, since the remote has another of its name for example, keeps \
      none of the others from being pushed. The command ends with an error then, after it has printed \
      what was pushed.

      EXAMPLES:
        vmckpt push web/before-upgrade
        vmckpt push latest --to nas --limit-rate 20M
        vmckpt push --all
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshots.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var references: [String] = []

  @Flag(
    name: .long,
    help:
      "All snapshots that the remote does not have, the oldest first, and working sets that it lacks."
  )
  var all = false

  @Option(name: .long, help: ArgumentHelp("With --all: only this VM's.", valueName: "name"))
  var vm: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Which of the store's remotes. (default: the only one, else origin)",
      valueName: "remote"
    )
  )
  var to: String?

  @Option(
    name: .long,
    help: ArgumentHelp("Requests at a time, 1 to 4. (default: 4)", valueName: "count")
  )
  var threads: Int?

  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the push is done" }

  func validate() throws {
    if let threads, !(1...4).contains(threads) { throw ValidationError("expected 1 to 4 threads") }
    guard all || !references.isEmpty else {
      throw ValidationError("name snapshots, or give --all")
    }
    guard !all || references.isEmpty else {
      throw ValidationError("--all and snapshots exclude each other")
    }
    guard all || vm == nil else { throw ValidationError("--vm goes with --all") }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> PushOutput {
    let references = try SnapshotReference.list(references)
    let operation = RemoteOperation(
      session: session,
      common: common,
      arguments: arguments,
      name: to,
      purpose: .writing,
      threadCount: threads ?? 4
    )
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      if all {
        return try place.store.pushAll(
          ofVM: vm,
          to: place.remote,
          place.transport,
          control: place.control
        )
      }
      return try place.store.push(
        references,
        to: place.remote,
        place.transport,
        control: place.control
      )
    }
    return PushOutput(result, warnings: warnings)
  }
}
