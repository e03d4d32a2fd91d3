import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

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

      Of a VM that was saved from QEMU, the member 'qemu' has the recorded command line, whether it is \
      this user's own record, and the disks as they were.

      EXAMPLES:
        vmckpt show latest
        vmckpt show web/before-upgrade --json | jq .overlays > overlays.json
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> ShowOutput {
    let reference = try SnapshotReference(reference)
    let store = try common.openStore(in: session)
    let detail = try store.snapshot(reference)
    return ShowOutput(detail, qemu: try qemuFacts(detail, in: store))
  }

  /// What is known of a guest of QEMU's; `nil` for others, and where its device state is damaged: `verify` reports
  /// that, and the rest can be shown.
  private func qemuFacts(
    _ detail: SnapshotDetail,
    in store: Store
  ) throws(VMCheckpointError) -> QEMUGuestFacts? {
    guard detail.deviceStates.contains(where: { $0.format == QEMUGuestFacts.stateFormat }) else {
      return nil
    }
    // By its UUID: "latest" may be another by now.
    let reference = try SnapshotReference(detail.summary.uuid)
    do throws(VMCheckpointError) {
      return try QEMUGuestFacts(store.deviceStates(of: reference))
    } catch {
      guard error.code == .corrupt else { throw error }
      return nil
    }
  }
}
