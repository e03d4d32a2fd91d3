import ArgumentParser
import VMCheckpoint

/// `vmckpt serve`.
struct ServeCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve a snapshot's pages to VMs that run, when they touch them.",
    usage: "vmckpt serve <ref> --uffd <socket> [<options>]",
    discussion: """
      A VMM connects to SOCKET and hands over a userfaultfd and where its RAM is, as Firecracker \
      does for a memory backend of the type Uffd. Each page that the guest touches is put \
      in place then, and all others behind it; a VM that has all of its pages needs no \
      server any more. Several VMs may connect, at once or one after another.

      SIGINT or SIGTERM ends the server: no more VMs are taken, and those that are there get \
      all of their pages first. When the process is killed, another one goes on in its place, \
      and the VMs only wait a moment. Of a page that is damaged in the store an access is an \
      error (SIGBUS), never zeros.

      Which pages a VM touches in its first seconds is recorded once, as the snapshot's working \
      set. The next VMs, and those of its descendants, get these pages first. While it is \
      recorded, no page comes before it is touched.

      A lease in the store keeps the snapshot from being deleted meanwhile: see 'vmckpt lease'. \
      The socket has mode 0600.

      EXAMPLES:
        vmckpt serve web/7 --uffd /run/vm/pages.sock
        vmckpt serve latest --uffd pages.sock --once --json
      """
  )

  @Argument(help: ArgumentHelp("The snapshot.", valueName: "ref"))
  var reference: String

  @Option(
    name: .long,
    help: ArgumentHelp("The Unix socket on which VMs connect.", valueName: "socket"),
    completion: .file()
  )
  var uffd: String

  @Option(
    name: .long,
    help: ArgumentHelp("What pages show where overlays stood.", valueName: "treatment")
  )
  var overlays = OverlayTreatment.apply

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The TSC's frequency where the guest will run, for the reference TSC page; k, M and G "
        + "are powers of 1000.",
      valueName: "hz"
    ),
    transform: Frequency.parse
  )
  var tscFrequency: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The CPU's vendor where the guest will run, for the hypercall page.",
      valueName: "vendor"
    )
  )
  var cpuVendor: CPUVendor?

  @Flag(name: .long, help: "Put no page in place before a VM touches it.")
  var noPrefetch = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Record for so long which pages the first VM touches, in place of the snapshot's working set; "
        + "0: never. Without this option: 5, when there is no working set.",
      valueName: "seconds"
    ),
    transform: WorkingSetSeconds.parse
  )
  var recordWorkingSet: Double?

  @Flag(name: .long, help: "End once the first VM has all of its pages, or is gone.")
  var once = false

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the VMs have their pages" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> ServeOutput {
    var request = ServeRequest(
      reference: try SnapshotReference(reference),
      socketPath: uffd,
      overlays: overlays,
      tscFrequencyHz: tscFrequency,
      cpuVendor: cpuVendor
    )
    request.prefetches = !noPrefetch
    request.endsWithFirstVM = once
    request.recordingSeconds = recordWorkingSet
    request.keeperCommand = ["/proc/self/exe", KeeperCommand.name] + session.arguments
    request.keeperDescriptor = session.environment[ServeKeeper.variable].flatMap { Int32($0) }
    let errorOutput = OutputDescriptor(descriptor: session.standardError)
    if !common.json {
      request.onReady = { ready in
        try? errorOutput.write(
          "vmckpt: serving \(printable(ready.name)) at \(printable(ready.socketPath))"
            + (ready.takenOverCount > 0
              ? ", with \(HumanReadable.count(ready.takenOverCount, "VM")) of a server that was killed"
              : "") + "\n"
        )
      }
    }
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try PageServer.serve(request, storePath: storePath, control: control)
    }
    return ServeOutput(result, warnings: warnings)
  }
}
