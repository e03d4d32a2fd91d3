import ArgumentParser
import VMCheckpoint

/// `vmckpt copy`.
struct CopyCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "copy",
    abstract: "Copy snapshots into another store on this machine.",
    usage: "vmckpt copy <ref>... --to <path> [--name <name>] [<options>]",
    discussion: """
      Pages that the other store has are not copied again. The others go over in their compressed \
      form, and each is checked by its SHA-256. A snapshot keeps its VM, tags, overlays, device \
      states and UUID, and its parent where that is in the other store too. One that is there \
      already is passed over. The other store is made if there is none. This store is only read.

      EXAMPLES:
        vmckpt copy web/before-upgrade --to /mnt/usb/vmckpt.db
        vmckpt copy web/1 web/2 --to team.db
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshots.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var references: [String]

  @Option(name: .long, help: ArgumentHelp("The other store.", valueName: "path"))
  var to: String

  @Option(
    name: .long,
    help: ArgumentHelp("What the snapshot is called there.", valueName: "name")
  )
  var name: String?

  @OptionGroup var threads: ThreadOptions
  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the copy is made" }

  func validate() throws {
    guard !to.isEmpty else { throw ValidationError("--to is empty: give it a path") }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> CopyOutput {
    let references = try SnapshotReference.list(references)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threads.threads
    )
    let (results, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation)
        .copy(references, as: name, toStoreAt: to, control: control)
    }
    return CopyOutput(results, to: to, warnings: warnings)
  }
}
