package import ArgumentParser
package import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt restore`.
package struct RestoreCommand: VerbCommand {
  package static let configuration = CommandConfiguration(
    commandName: "restore",
    abstract: "Write a snapshot's RAM to a file, its overlays rebuilt.",
    usage: "vmckpt restore <ref> -o <path> [<options>]",
    discussion: """
      The file is sparse, has mode 0600, and appears under its name only when it is \
      complete. RAM is loaded first; then the active overlay at each page is put over it, \
      or none with '--overlays omit'. --overlays-out describes the RAM that was written, \
      so that both together can be saved again as the same snapshot.

      '--format elf' writes an ELF core with the notes that crash, drgn, volatility3 and \
      makedumpfile need, as far as the snapshot has what they are made of.

      '--format lime' writes a capture of LiME, of all that is RAM.

      '--format cloud-hypervisor' and '--format firecracker' write the directory that was saved, \
      each of its files as it was.

      '--format propolis' writes the snapshot of propolis-standalone that was saved, RAM bare, \
      byte for byte.

      With '-o -' RAM goes to standard output, and the result, text or JSON, to standard \
      error.

      '--format qemu-stream' writes a migration stream with RAM and device state, of a \
      guest that was saved from QEMU, which takes it with '-incoming "exec:vmckpt restore \
      REF --format qemu-stream -o -"'.

      '--format libvirt-save' writes what 'virsh restore' takes, with the XML that was saved, or \
      that of --xml.

      '--format qemu' makes a directory with RAM, device state and run.sh, which runs the \
      VM in QEMU, as often as you like. A recorded command line is a program: run.sh runs \
      it without asking only if 'save qemu:' recorded it on this host for this user. Any \
      other it shows, and runs only with --trust-command, given here or to run.sh. It runs \
      no VM on a disk that has changed since, is gone or in use, unless 'run.sh --disks \
      as-is' says so; 'run.sh --disks overlay' leaves the disks as they are.

      EXAMPLES:
        vmckpt restore latest -o guest.ram
        vmckpt restore web/7 -o bare.ram --overlays omit --overlays-out bare.json
        vmckpt restore latest -o guest.ram --tsc-frequency 2.4G --cpu-vendor amd
        vmckpt restore web/live --format qemu -o web && web/run.sh
        vmckpt restore latest -o web.elf --format elf
        vmckpt restore latest -o web.tar --format propolis
        vmckpt restore latest~1 -o - | sha256sum
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What the RAM shows where overlays stood. (default: apply; omit for propolis)",
      valueName: "treatment"
    )
  )
  var overlays: OverlayTreatment?

  @Flag(name: .long, help: "Recheck the SHA-256 of every page.")
  var verify = false

  @Option(name: .long, help: "The format of what is written.")
  var format = FormatArgument.raw

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Also write each device state to a file of its name in this directory.",
      valueName: "directory"
    ),
    completion: .directory
  )
  var deviceStates: String?

  @Flag(
    name: .long,
    help: ArgumentHelp(
      "With '--format qemu', let run.sh run the recorded command line without asking, whoever "
        + "recorded it."
    )
  )
  var trustCommand = false

  @OptionGroup var targetOptions: TargetOptions
  @OptionGroup var threadOptions: ThreadOptions
  @OptionGroup var timingOptions: TimingOptions
  @OptionGroup package var common: CommonOptions

  /// Made by ArgumentParser.
  package init() {}

  package var standardOutputCarriesRAM: Bool { targetOptions.isStandardOutput }

  package var accomplishment: String? { "the snapshot is restored" }

  package func perform(in session: CommandSession) throws(VMCheckpointError) -> RestoreOutput {
    let request = try makeRequest(in: session)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation).restore(
        request,
        control: control
      )
    }
    return RestoreOutput(
      result,
      overlaysPath: targetOptions.overlaysOut,
      warnings: warnings,
      showsStages: timingOptions.timing
    )
  }

  /// What the arguments ask for. Reads the XML.
  package func makeRequest(in session: CommandSession) throws(VMCheckpointError) -> RestoreRequest {
    guard format.form.form.showsOverlays || overlays != .apply else {
      throw VMCheckpointError(
        .invalidArgument,
        "--overlays apply does not go with --format \(format): its RAM is bare",
        hint: "leave it out: the VMM lays its overlays over RAM itself"
      )
    }
    guard deviceStates?.isEmpty != true else {
      throw VMCheckpointError(
        .invalidArgument,
        "--device-states is empty",
        hint: "give it a directory"
      )
    }
    guard !trustCommand || format.form == .qemu else {
      throw VMCheckpointError(
        .invalidArgument,
        "--trust-command goes with --format qemu",
        hint: "leave it out"
      )
    }
    var target = try targetOptions.makeTarget(format, treatment: overlays, in: session)
    if trustCommand { target.format = .qemuTrustingCommand }
    return RestoreRequest(
      reference: try SnapshotReference(reference),
      target: target,
      verifiesPages: verify,
      deviceStatesDirectory: deviceStates
    )
  }
}
