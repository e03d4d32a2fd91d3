import ArgumentParser
import VMCheckpoint

/// `vmckpt remote check`.
struct RemoteCheckCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check that a remote has what its snapshots need.",
    usage: "vmckpt remote check [--read-data <percent>] [<options>]",
    discussion: """
      Reads every manifest and the list of what each pack holds. With '--read-data' it also reads \
      so many of the packs, chosen at random, and checks their SHA-256s. It changes nothing. The \
      exit code is 65 when something is wrong. That is so too when snapshots do not count by the \
      times of the objects, since the remote was copied or restored: see 'vmckpt remote adopt'.

      EXAMPLES:
        vmckpt remote check
        vmckpt remote check --read-data 5
      """
  )

  @Option(
    name: .long,
    help: ArgumentHelp("How many of the packs to read, in percent.", valueName: "percent")
  )
  var readData: Double = 0

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (0...100).contains(readData) else {
      throw ValidationError("expected a number from 0 to 100")
    }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteCheckOutput {
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return (
        place.remote,
        try place.store.checkRemote(
          place.remote,
          place.transport,
          readingPercent: readData,
          control: place.control
        )
      )
    }
    return RemoteCheckOutput(result.0, result.1, warnings: warnings)
  }
}

/// `vmckpt remote delete`.
struct RemoteDeleteCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete",
    abstract: "Delete snapshots of a remote.",
    usage: "vmckpt remote delete <ref>... [<options>]",
    discussion: """
      All of the named snapshots are deleted, or, when one does not exist, none. 'vmckpt remote \
      gc' frees what only they needed. Snapshots in stores stay.
      """
  )

  @Argument(help: ArgumentHelp("The snapshots, by name or UUID.", valueName: "ref"))
  var references: [String]

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the deletion is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteDeleteOutput {
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return (
        place.remote,
        try place.store.deleteRemoteSnapshots(
          references,
          of: place.remote,
          place.transport,
          control: place.control
        )
      )
    }
    return RemoteDeleteOutput(remote: result.0.name, deleted: result.1, warnings: warnings)
  }
}

/// `vmckpt remote prune`.
struct RemotePruneCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Delete the snapshots of a remote that no rule keeps.",
    usage: "vmckpt remote prune --keep-... [--dry-run] [<options>]",
    discussion: """
      The rules are those of 'vmckpt prune', and go by when a snapshot was complete. 'vmckpt \
      remote gc' frees what only the deleted snapshots needed. Snapshots in stores stay; 'vmckpt \
      push --all' sends them again if they are there.

      The newest snapshot of a VM stays whatever the rules say, unless --delete-newest is given. A \
      snapshot that is served from this store stays too, which of a mount is so while a file in it \
      is open. Of other hosts that is not known: VMs there whose pages still come from the remote \
      lose them when they are collected.

      EXAMPLES:
        vmckpt remote prune --keep-last 3 --keep-daily 7 --keep-weekly 5 --dry-run
        vmckpt remote prune --keep-within 1m --keep-tag keep --vm web
      """
  )

  @OptionGroup var retention: RetentionOptions

  @Flag(name: .long, help: "Only show what would be deleted.")
  var dryRun = false

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { dryRun ? nil : "the deletion is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemotePruneOutput {
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return (
        place.remote,
        try place.store.pruneRemote(
          retention.policy,
          dryRun: dryRun,
          of: place.remote,
          place.transport,
          control: place.control
        )
      )
    }
    return RemotePruneOutput(result.0.name, result.1, dryRun: dryRun, warnings: warnings)
  }
}

/// `vmckpt remote gc`.
struct RemoteGcCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "gc",
    abstract: "Free what no snapshot of a remote needs, while others push.",
    usage: "vmckpt remote gc [--dry-run] [--leave-waiting] [<options>]",
    discussion: """
      What no snapshot needs is condemned first. Pushes that began before may still use it, and \
      collections wait for them. Of pushes that were killed that is as long as the remote's lease. \
      With '--leave-waiting' nothing is waited for; a later collection deletes the rest.

      Any number of hosts may collect at once. A remote that was copied or restored is refused: \
      see 'vmckpt remote adopt'.
      """
  )

  @Flag(name: .long, help: "Say what would be freed, and change nothing.")
  var dryRun = false

  @Flag(name: .long, help: "Do not wait for pushes; leave what they may use for later.")
  var leaveWaiting = false

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the collection is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteGcOutput {
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      return (
        place.remote,
        try place.store.collectRemoteGarbage(
          place.remote,
          place.transport,
          dryRun: dryRun,
          waits: !leaveWaiting,
          control: place.control
        )
      )
    }
    return RemoteGcOutput(result.0, result.1, warnings: warnings)
  }
}

/// `vmckpt remote adopt`.
struct RemoteAdoptCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "adopt",
    abstract: "Let the snapshots of a remote count again that was copied or restored.",
    usage: "vmckpt remote adopt [<options>]",
    discussion: """
      The objects of a copied bucket have new times, by which its snapshots came too late to \
      count. Each whose packs are there is put once more. Nobody may push to the remote before \
      that is done.
      """
  )

  @OptionGroup var choice: RemoteChoice
  @OptionGroup var arguments: RemoteArguments
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the remote's snapshots count again" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> RemoteAdoptOutput {
    let operation = choice.operation(in: session, common, arguments)
    let (result, warnings) = try operation.run { (place) throws(VMCheckpointError) in
      let (adoptedCount, problems) = try place.store.adoptRemote(
        place.remote,
        place.transport,
        control: place.control
      )
      return (place.remote.name, adoptedCount, problems)
    }
    return RemoteAdoptOutput(
      remote: result.0,
      adopted: result.1,
      problems: result.2,
      warnings: warnings
    )
  }
}
