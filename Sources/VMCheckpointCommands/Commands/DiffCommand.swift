import ArgumentParser
import VMCheckpoint

/// `vmckpt diff`.
struct DiffCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare two snapshots: pages, overlays, device state.",
    usage: "vmckpt diff <a> <b> [--who] [--limit <n>] [<options>]",
    discussion: """
      Shows what is different in B as against A: pages added (zero in A), zeroed and \
      changed, as ranges of PFNs. Reads no page data. The exit code is 0 whether or not \
      they differ; the JSON's 'identical' says so.

      With --who, pages that differ are also summed up by whose they are in B: by class \
      (anonymous memory, file, slab, page table, free, …), process and file. That is read from \
      the guest's own kernel, of Linux 5.10 and later; page data is read for it.

      EXAMPLES:
        vmckpt diff latest~1 latest
        vmckpt diff latest~1 latest --who
        vmckpt diff before after --limit all
        vmckpt diff before after --json | jq .changed.page_count
      """
  )

  @Argument(
    help: ArgumentHelp("The first snapshot.", valueName: "a"),
    completion: SnapshotCompletion.kind
  )
  var a: String

  @Argument(
    help: ArgumentHelp("The second snapshot.", valueName: "b"),
    completion: SnapshotCompletion.kind
  )
  var b: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "List at most this many ranges of each class, and owners, or 'all'. (default: 20; all with --json)",
      valueName: "n"
    ),
    transform: RangeLimit.parse
  )
  var limit: RangeLimit?

  @Flag(name: .long, help: "Sum up whose the pages are that differ.")
  var who = false

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> DiffOutput {
    let a = try SnapshotReference(a)
    let b = try SnapshotReference(b)
    let storePath = try common.storePath(environment: session.environment)
    let limit = limit ?? (common.json ? .all : .forText)
    if who { try SQLFunctionLibrary.add() }
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run {
      (control) throws(VMCheckpointError) -> (SnapshotDiff, QueryResult?) in
      let store = try Store.open(at: storePath, cancellation: control.cancellation)
      let diff = try store.diff(
        a,
        b,
        maximumRangeCount: limit.maximumRangeCount,
        control: control
      )
      guard who else { return (diff, nil) }
      let owners = try store.answer(
        StoreQuery.named("changed-owners"),
        arguments: [
          "snapshot": diff.a, "other": diff.b,
          "limit": "\(QueryResult.maximumRowCount)",
        ],
        control: control
      )
      for note in owners.notes { control.onWarning?(note.warning) }
      return (diff, owners)
    }
    return DiffOutput(
      result.0,
      owners: result.1,
      maximumOwnerCount: limit.maximumRangeCount,
      warnings: warnings
    )
  }
}
