import ArgumentParser
import VMCheckpoint

/// `vmckpt verify`.
struct VerifyCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check stored data, and name what is damaged.",
    usage: "vmckpt verify [<ref>]... [--part <k/n>] [<options>]",
    discussion: """
      Recomputes every checksum of the named snapshots, or of the whole store. Ends with \
      exit code 65 when anything is damaged; the report, text or JSON, still goes to \
      standard output, and there is no JSON error.

      With --part it reads one of N equal parts of the store, so that N runs, one each night, read \
      all of it; 'next' is the one that was not read for the longest time. The store notes what was verified and when, for 'vmckpt status'.

      EXAMPLES:
        vmckpt verify
        vmckpt verify --part next/30
        vmckpt verify latest web/before-upgrade
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshots. (default: the whole store)", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var references: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Only one part of so many of the store, such as 1/30, or next/30.",
      valueName: "k/n"
    ),
    transform: PartArgument.parse
  )
  var part: PartArgument?

  @OptionGroup var threadOptions: ThreadOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard part == nil || references.isEmpty else {
      throw ValidationError("--part is a part of the whole store: give no snapshots with it")
    }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> VerifyOutput {
    let references = try SnapshotReference.list(references)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    do {
      let (report, warnings) = try operation.run { (control) throws(VMCheckpointError) in
        let store = try Store.open(at: storePath, cancellation: control.cancellation)
        return try store.verify(references, part: part?.part(of: store) ?? .whole, control: control)
      }
      return VerifyOutput(report, warnings: warnings)
    } catch {
      throw error.whileVerifying
    }
  }
}
