import ArgumentParser
import VMCheckpoint

/// `vmckpt verify`.
struct VerifyCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check stored data, and name what is damaged.",
    usage: "vmckpt verify [<ref>]... [<options>]",
    discussion: """
      Recomputes every checksum of the named snapshots, or of the whole store. Ends with \
      exit code 65 when anything is damaged; the report, text or JSON, still goes to \
      standard output, and there is no JSON error.

      EXAMPLES:
        vmckpt verify
        vmckpt verify latest web/before-upgrade
      """
  )

  @Argument(help: ArgumentHelp("The snapshots. (default: the whole store)", valueName: "ref"))
  var references: [String] = []

  @OptionGroup var threadOptions: ThreadOptions
  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> VerifyOutput {
    let references = try SnapshotReference.list(references)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    let (report, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation).verify(
        references,
        control: control
      )
    }
    return VerifyOutput(report, warnings: warnings)
  }
}
