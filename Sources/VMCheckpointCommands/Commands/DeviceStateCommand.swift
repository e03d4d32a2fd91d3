import ArgumentParser
import VMCheckpoint

/// `vmckpt device-state`.
struct DeviceStateCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "device-state",
    abstract: "Write one of a snapshot's device states, as the VMM wrote it.",
    usage: "vmckpt device-state <ref> <name> -o <path> [--force] [<options>]",
    discussion: """
      'vmckpt show' lists a snapshot's device states. 'vmckpt save --device-state' adds one, and \
      'vmckpt restore --device-states' writes all of them.

      With '-o -' the bytes go to standard output, and the result to standard error.

      EXAMPLES:
        vmckpt device-state web/7 vmstate -o web.vmstate
        vmckpt device-state latest elf-notes -o - | readelf -n -
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Argument(help: ArgumentHelp("The device state.", valueName: "name"))
  var name: String

  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("The file to write, or '-'.", valueName: "path"),
    completion: .file()
  )
  var output: String

  @Flag(name: .long, help: "Replace a file that exists.")
  var force = false

  @OptionGroup var common: CommonOptions

  var standardOutputCarriesRAM: Bool { output == "-" }

  var accomplishment: String? { "the device state is written" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> DeviceStateFileOutput {
    let (snapshot, state) = try common.openStore(in: session).writeDeviceState(
      named: name,
      of: try SnapshotReference(reference),
      to: output == "-" ? .stream(fileDescriptor: session.standardOutput) : .file(path: output),
      overwriting: force
    )
    return DeviceStateFileOutput(
      snapshot: snapshot,
      name: state.name,
      format: state.format,
      version: state.version,
      bytes: UInt64(state.data.count),
      path: output == "-" ? nil : output
    )
  }
}
