import ArgumentParser
import FoundationEssentials
import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt resume`.
struct ResumeCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume",
    abstract: "Run a snapshot's guest in QEMU, in the foreground.",
    usage: "vmckpt resume <ref> [<options>] [-- <qemu-argument> ...]",
    discussion: """
      The guest goes on at once, and its RAM follows: vmckpt is the source of a postcopy migration, \
      as 'vmckpt serve --qemu' is. With '--lazy mount', or where the host does not allow that, it \
      runs from a mount of its own, as by 'vmckpt mount'; with '--lazy none', or where that is not \
      allowed either, a temporary directory is restored first. A server that is killed is replaced.

      What runs is the command line that 'save qemu:' has recorded, with RAM and the incoming state \
      exchanged, and with the arguments behind '--' appended. A command line is a program, and may \
      be a stranger's: one that this user did not record on this host is shown, and needs \
      --trust-command. If the first argument behind '--' is not an option, they are the whole \
      command line, and nothing recorded is run.

      Disks, network and sockets are those of the command line. Disks that have changed since the \
      save, or are in use, are refused; with '--disks overlay' the guest writes to overlays that are \
      thrown away, as clones of one guest need. A guest that was saved while it was \
      stopped stays stopped. SIGINT and SIGTERM end QEMU. The exit code is QEMU's, or 128 and the \
      number of the signal that has ended it. Results go to standard error.

      EXAMPLES:
        vmckpt resume web/7
        vmckpt resume latest --disks overlay -- -serial stdio
        vmckpt resume web/7 --lazy none -- qemu-system-x86_64 -m 1G -nographic

      ENVIRONMENT:
        TMPDIR                    Where a temporary directory is restored, if
                                  not in /var/tmp.
        VMCKPT_WORKING_DIRECTORY  Where relative paths of the command line
                                  begin, if not where they did when the guest
                                  was saved.
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Argument(
    parsing: .postTerminator,
    help: ArgumentHelp("Arguments for QEMU, or a whole command line.", valueName: "qemu-argument")
  )
  var qemuArguments: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp("How RAM comes; otherwise as the host allows.", valueName: "way")
  )
  var lazy: QEMULaziness?

  @Flag(name: .long, help: "Run a recorded command line whoever recorded it.")
  var trustCommand = false

  @Option(
    name: .long,
    help: ArgumentHelp("What becomes of the recorded disks.", valueName: "mode")
  )
  var disks = DiskMode.check

  @Option(
    name: .long,
    help: ArgumentHelp("What pages show where overlays stood.", valueName: "treatment")
  )
  var overlays = OverlayTreatment.apply

  @OptionGroup var retarget: RetargetOptions

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Record for so long which pages the guest touches, for the next start, in place of the snapshot's working "
        + "set; 0: never. Until then no page comes before it is touched. Without this option: 5, when there is no "
        + "working set.",
      valueName: "seconds"
    ),
    transform: WorkingSetSeconds.parse
  )
  var recordWorkingSet: Double?

  @OptionGroup var timingOptions: TimingOptions
  @OptionGroup var common: CommonOptions

  /// Standard output is QEMU's.
  var standardOutputCarriesRAM: Bool { true }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> ResumeOutput {
    var request = QEMUResumeRequest(
      reference: try SnapshotReference(reference),
      ownCommand: ["/proc/self/exe"],
      temporaryDirectory: session.environment["TMPDIR"] ?? "/var/tmp"
    )
    request.laziness = lazy
    request.arguments = qemuArguments
    request.trustsCommand = trustCommand
    request.diskMode = disks
    request.recordingSeconds = recordWorkingSet
    request.workingDirectory = session.environment["VMCKPT_WORKING_DIRECTORY"]
    request.overlays = overlays
    request.tscFrequencyHz = retarget.tscFrequency
    request.cpuVendor = retarget.cpuVendor
    if !common.json {
      request.noticeDescriptor = session.standardError
      let errorOutput = OutputDescriptor(descriptor: session.standardError)
      request.onStart = { name, laziness, reason in
        try? errorOutput.write(
          "vmckpt: resuming \(printable(name)) with --lazy \(laziness): \(reason)\n"
        )
      }
    }
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try QEMUResume.run(request, storePath: storePath, control: control)
    }
    let served = result.serverReport.flatMap {
      try? JSONDecoder().decode(PostcopyOutput.self, from: Data($0.utf8))
    }
    return ResumeOutput(
      result,
      served: served,
      warnings: warnings,
      showsStages: timingOptions.timing
    )
  }
}
