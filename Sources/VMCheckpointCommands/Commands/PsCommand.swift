import ArgumentParser
import VMCheckpoint

/// `vmckpt ps`.
struct PsCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "ps",
    abstract: "Show the guest's processes.",
    usage: "vmckpt ps <ref> [aux] [-e] [-f] [-L] [--tree] [<options>]",
    discussion: """
      Processes are read from the guest's RAM, as ps would show them in the guest: of Linux 5.10 \
      and later, for x86-64 and arm64. No symbol file is needed. Without -e, kernel threads are \
      left out. START is counted from the guest's boot.

      A guest can lie, and a guest that was not paused changed meanwhile: what is broken is \
      shown as far as it could be read, with a note in the JSON. Where the list of processes \
      itself is torn, a warning says so.

      EXAMPLES:
        vmckpt ps latest
        vmckpt ps web/7 -ef
        vmckpt ps web/7 aux
        vmckpt ps web/7 -eL
        vmckpt ps web/7 --tree
        vmckpt query processes-changed web/6 web/7
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Argument(help: ArgumentHelp("As -e -f.", valueName: "aux"))
  var form: PsForm?

  @Flag(name: [.customShort("e"), .customShort("A")], help: "Kernel threads too.")
  var everything = false

  @Flag(
    name: .customShort("f"),
    help: "More columns: user, parent, start, and whole command lines."
  )
  var full = false

  @Flag(name: .customShort("L"), help: "A row for each thread.")
  var threads = false

  @Flag(
    name: [.long, .customLong("forest"), .customShort("H")],
    help: "Processes below their parents."
  )
  var tree = false

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> PsOutput {
    guard !threads || !tree else {
      throw VMCheckpointError(
        .invalidArgument,
        "a tree has processes, not threads",
        hint: "leave out --tree or -L"
      )
    }
    let reference = try SnapshotReference(reference)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (view, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      let store = try Store.open(at: storePath, cancellation: control.cancellation)
      return try threads
        ? store.guestThreads(of: reference, control: control)
        : store.guestProcesses(of: reference, control: control)
    }
    return PsOutput(
      view,
      showsKernelThreads: everything || form != nil,
      style: PsOutput.Style(isFull: full || form != nil, isTree: tree, hasThreads: threads),
      warnings: warnings
    )
  }
}

/// Options without dashes, as BSD's ps has them.
enum PsForm: String, CaseIterable, ExpressibleByArgument {
  case aux
}
