import ArgumentParser
import VMCheckpoint

/// `vmckpt dmesg`.
struct DmesgCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "dmesg",
    abstract: "Show what the guest's kernel logged.",
    usage: "vmckpt dmesg <ref> [-T] [<options>]",
    discussion: """
      The log is read from the guest's RAM, as dmesg would show it: of Linux 5.10 and later, \
      for x86-64 and arm64. No symbol file is needed. A guest can lie, and the pages of its log \
      can be torn when it was not paused: what is broken is left out, and counted in a warning.

      EXAMPLES:
        vmckpt dmesg latest
        vmckpt dmesg -T web/7 | grep -i error
        vmckpt query log-since web/6 web/7
      """
  )

  @Argument(help: ArgumentHelp("The snapshot.", valueName: "ref"))
  var reference: String

  @Flag(
    name: [.customShort("T"), .customLong("ctime")],
    help: "Show the time of day, in UTC, by the guest's clock."
  )
  var showsTimeOfDay = false

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> DmesgOutput {
    let reference = try SnapshotReference(reference)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (view, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation)
        .guestLog(of: reference, control: control)
    }
    return DmesgOutput(view, showsTimeOfDay: showsTimeOfDay, warnings: warnings)
  }
}
