import ArgumentParser
import VMCheckpoint

/// `vmckpt ps`.
struct PsCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "ps",
    abstract: "Show the guest's processes.",
    usage: "vmckpt ps <ref> [-e] [-f] [--tree] [<options>]",
    discussion: """
      Processes are read from the guest's RAM, as ps would show them in the guest: of Linux 5.10 \
      and later, for x86-64 and arm64. No symbol file is needed. Without -e, kernel threads are \
      left out. START is counted from the guest's boot.

      A guest can lie, and a guest that was not paused changed meanwhile: what is broken is \
      shown as far as it could be read, with a note in the JSON.

      EXAMPLES:
        vmckpt ps latest
        vmckpt ps web/7 -ef
        vmckpt ps web/7 --tree
        vmckpt query processes-changed web/6 web/7
      """
  )

  @Argument(help: ArgumentHelp("The snapshot.", valueName: "ref"))
  var reference: String

  @Flag(name: .customShort("e"), help: "Kernel threads too.")
  var everything = false

  @Flag(
    name: .customShort("f"),
    help: "More columns: user, parent, start, and whole command lines."
  )
  var full = false

  @Flag(name: .long, help: "Processes below their parents.")
  var tree = false

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> PsOutput {
    let reference = try SnapshotReference(reference)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (view, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation)
        .guestProcesses(of: reference, control: control)
    }
    return PsOutput(
      view,
      showsKernelThreads: everything,
      style: PsOutput.Style(isFull: full, isTree: tree),
      warnings: warnings
    )
  }
}
