import ArgumentParser
import VMCheckpoint

/// `vmckpt list`.
struct ListCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List snapshots in the order of their saving.",
    usage: "vmckpt list [--vm <vm>] [--tag <key=value>]... [<options>]",
    discussion: """
      NONZERO is what a snapshot has to store of its RAM; NEW is how much of it no \
      snapshot had before, and STORED what that takes, compressed.

      EXAMPLES:
        vmckpt list --vm web --tag kernel=6.1
        vmckpt list --json | jq -r '.snapshots[].name'
      """
  )

  @Option(name: .long, help: "Only snapshots of this virtual machine.")
  var vm: String?

  @Option(
    name: .long,
    help: ArgumentHelp("Only snapshots with this tag; may be repeated.", valueName: "key=value"),
    transform: TagArgument.parse
  )
  var tag: [TagArgument] = []

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> ListOutput {
    let tags = try TagArgument.dictionary(tag)
    if let vm { try SnapshotName.check(vm, what: "VM name") }
    let store = try common.openStore(in: session)
    let snapshots = try store.snapshots(vm: vm, tags: tags)
    return ListOutput(
      snapshots,
      storePath: store.path,
      isFiltered: vm != nil || !tags.isEmpty
    )
  }
}
