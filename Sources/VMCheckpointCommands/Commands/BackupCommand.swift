import ArgumentParser
import VMCheckpoint

/// `vmckpt backup`.
struct BackupCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup",
    abstract: "Copy the whole store into a new file, while it is in use.",
    usage: "vmckpt backup <copy> [--verify] [<options>]",
    discussion: """
      The copy is a store of its own, with mode 0600, and holds what the store held at one \
      moment. A copy made by cp while a save runs is damaged. The copy appears at its path \
      when it is whole and on disk; until then it is a hidden file beside it.

      If somebody saves meanwhile, the copy begins anew, and further saves wait until it is \
      made: give them a longer --wait.

      EXAMPLES:
        vmckpt backup /mnt/usb/vmckpt.db
        vmckpt backup --verify vmckpt-monday.db
      """
  )

  @Argument(help: ArgumentHelp("Where the copy goes; nothing is there yet.", valueName: "copy"))
  var copy: String

  @Flag(name: .long, help: "Verify the copy before it gets its name.")
  var verify = false

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the copy is made" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> BackupOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation).backup(
        to: copy,
        verifies: verify,
        control: control
      )
    }
    return BackupOutput(copy, result, warnings: warnings)
  }
}
