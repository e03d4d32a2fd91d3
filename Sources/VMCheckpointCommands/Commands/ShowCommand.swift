import ArgumentParser
import VMCheckpoint

/// `vmckpt show`.
struct ShowCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show everything about a snapshot but its RAM.",
    usage: "vmckpt show <ref> [<options>]",
    discussion: """
      The member 'overlays' of the JSON is an overlays.json for the snapshot's bare RAM, as \
      'vmckpt restore --overlays omit' writes it. 'overlay_origin' says where they come from: \
      what they were found in, or an overlays.json. 'working_set' is about the pages that a VM \
      touches first when 'vmckpt serve' gives it its RAM; null: nothing was recorded.

      EXAMPLES:
        vmckpt show latest
        vmckpt show web/before-upgrade --json | jq .overlays > overlays.json
      """
  )

  @Argument(help: ArgumentHelp("The snapshot.", valueName: "ref"))
  var reference: String

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> ShowOutput {
    let reference = try SnapshotReference(reference)
    return ShowOutput(try common.openStore(in: session).snapshot(reference))
  }
}
