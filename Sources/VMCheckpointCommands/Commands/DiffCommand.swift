import ArgumentParser
import VMCheckpoint

/// `vmckpt diff`.
struct DiffCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare two snapshots: pages, overlays, device state.",
    usage: "vmckpt diff <a> <b> [--limit <n>] [<options>]",
    discussion: """
      Shows what is different in B as against A: pages added (zero in A), zeroed and \
      changed, as ranges of PFNs. Reads no page data. The exit code is 0 whether or not \
      they differ; the JSON's 'identical' says so.

      EXAMPLES:
        vmckpt diff latest~1 latest
        vmckpt diff before after --limit all
        vmckpt diff before after --json | jq .changed.page_count
      """
  )

  @Argument(help: ArgumentHelp("The first snapshot.", valueName: "a"))
  var a: String

  @Argument(help: ArgumentHelp("The second snapshot.", valueName: "b"))
  var b: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "List at most this many ranges of each class, or 'all'. (default: 20; all with --json)",
      valueName: "n"
    ),
    transform: RangeLimit.parse
  )
  var limit: RangeLimit?

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> DiffOutput {
    let a = try SnapshotReference(a)
    let b = try SnapshotReference(b)
    let storePath = try common.storePath(environment: session.environment)
    let limit = limit ?? (common.json ? .all : .forText)
    let operation = LongOperation(session: session, common: common)
    let (diff, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation).diff(
        a,
        b,
        maximumRangeCount: limit.maximumRangeCount,
        control: control
      )
    }
    return DiffOutput(diff, warnings: warnings)
  }
}
