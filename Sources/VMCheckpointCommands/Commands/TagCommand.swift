import ArgumentParser
import VMCheckpoint

/// `vmckpt tag`.
struct TagCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "tag",
    abstract: "Set and remove a snapshot's tags.",
    usage: "vmckpt tag <ref> [<key=value>]... [--remove <key>]... [<options>]",
    discussion: """
      EXAMPLES:
        vmckpt tag latest keep=yes kernel=6.1
        vmckpt tag web/before-upgrade --remove keep
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Argument(
    help: ArgumentHelp("The tags to set.", valueName: "key=value"),
    transform: TagArgument.parse
  )
  var tags: [TagArgument] = []

  @Option(
    name: .long,
    help: ArgumentHelp("A tag to remove; may be repeated.", valueName: "key")
  )
  var remove: [String] = []

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the change of tags is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> TagOutput {
    let reference = try SnapshotReference(reference)
    let tags = try checkedTags()
    return TagOutput(
      snapshot: SummaryOutput(
        try common.openStore(in: session).tag(reference, setting: tags, removing: remove)
      )
    )
  }

  /// The tags to set.
  func checkedTags() throws(VMCheckpointError) -> [String: String] {
    let tags = try TagArgument.dictionary(tags)
    guard !tags.isEmpty || !remove.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "there is no tag to set or remove",
        hint: "give KEY=VALUE or --remove KEY"
      )
    }
    for key in remove {
      try SnapshotName.check(key, what: "tag key")
      guard tags[key] == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "tag \(quotedName(key)) is both set and removed",
          hint: "give one"
        )
      }
    }
    return tags
  }
}
