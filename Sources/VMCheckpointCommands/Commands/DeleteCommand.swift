import ArgumentParser
import VMCheckpoint

/// `vmckpt delete`.
struct DeleteCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete",
    abstract: "Delete snapshots and free what only they used.",
    usage: "vmckpt delete <ref>... [<options>]",
    discussion: """
      All of the named snapshots are deleted, or, when one does not exist, none. Other \
      snapshots keep all of their pages, children of a deleted one too. Freed pages are \
      overwritten in the store: a guest's RAM holds secrets.

      EXAMPLES:
        vmckpt delete web/before-upgrade
        vmckpt delete web/1 web/2 latest~3
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshots.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var references: [String]

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the deletion is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> DeleteOutput {
    let references = try SnapshotReference.list(references)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, for: .writing, cancellation: control.cancellation).delete(
        references,
        control: control
      )
    }
    return DeleteOutput(result, warnings: warnings)
  }
}

extension SnapshotReference {
  /// Parses each of `texts`.
  static func list(_ texts: [String]) throws(VMCheckpointError) -> [SnapshotReference] {
    var references: [SnapshotReference] = []
    for text in texts {
      references.append(try SnapshotReference(text))
    }
    return references
  }
}
