import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt serve`.
struct ServeCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve a snapshot's pages to VMs that run, when they touch them.",
    usage: """
      vmckpt serve <ref> --uffd <socket> [<options>]
      vmckpt serve <ref> --qemu [--connect|--recover <socket>] [<options>]
      """,
    discussion: """
      With '--uffd', a VMM connects to SOCKET and hands over a userfaultfd and where its RAM is, as \
      Firecracker does for a memory backend of the type Uffd. Each page that the guest touches is \
      put in place then, and all others behind it; a VM that has all of its pages needs no \
      server any more. Several VMs may connect, at once or one after another.

      With '--qemu', vmckpt is the source of a postcopy migration into any QEMU: the guest runs \
      at once, and its RAM follows. QEMU starts vmckpt itself, by -incoming "exec:vmckpt serve REF \
      --qemu", or listens on a socket, for '--connect'. It needs -global \
      migration.x-postcopy-ram=on, and RAM that is anonymous or a memory-backend-memfd. A guest \
      that was saved while it was stopped needs -S as well. Results go to standard error.

      SIGINT or SIGTERM ends the server: no more VMs are taken, and those that are there get \
      all of their pages first. When the process is killed, another one goes on in its place, \
      and the VMs only wait a moment; a QEMU pauses its guest, and '--recover' goes on. Of a page \
      that is damaged in the store an access is an error (SIGBUS), or pauses QEMU's guest: it \
      never reads zeros.

      Which pages a VM touches in its first seconds is recorded once, as the snapshot's working \
      set. The next VMs, and those of its descendants, get these pages first. While it is \
      recorded, no page comes before it is touched.

      A lease in the store keeps the snapshot from being deleted meanwhile: see 'vmckpt lease'. \
      The socket of '--uffd' has mode 0600.

      EXAMPLES:
        vmckpt serve web/7 --uffd /run/vm/pages.sock
        vmckpt serve latest --uffd pages.sock --once --json
        qemu-system-x86_64 ... -global migration.x-postcopy-ram=on \\
          -incoming "exec:vmckpt serve web/7 --qemu"
        vmckpt serve web/7 --qemu --recover qmp.sock
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Option(
    name: .long,
    help: ArgumentHelp("The Unix socket on which VMs connect.", valueName: "socket"),
    completion: .file()
  )
  var uffd: String?

  @Flag(name: .long, help: "Send the guest and its pages to a QEMU that waits for a migration.")
  var qemu = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With '--qemu', the Unix socket on which QEMU listens; without it QEMU is at standard input "
        + "and output.",
      valueName: "socket"
    ),
    completion: .file()
  )
  var connect: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With '--qemu', go on for a server that was killed: the socket of QEMU's monitor (QMP).",
      valueName: "socket"
    ),
    completion: .file()
  )
  var recover: String?

  @Option(
    name: .long,
    help: ArgumentHelp("What pages show where overlays stood.", valueName: "treatment")
  )
  var overlays = OverlayTreatment.apply

  @OptionGroup var retarget: RetargetOptions

  @Flag(name: .long, help: "Give no page before a VM touches it.")
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

  @Flag(name: .long, help: "With '--uffd', end once the first VM has all of its pages, or is gone.")
  var once = false

  @OptionGroup var common: CommonOptions

  var standardOutputCarriesRAM: Bool { qemu && connect == nil && recover == nil }

  var accomplishment: String? { "the VMs have their pages" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> ServeReport {
    switch (uffd, qemu) {
    case (let socketPath?, false):
      guard connect == nil, recover == nil else {
        throw VMCheckpointError(.invalidArgument, "--connect and --recover go with --qemu")
      }
      return .userfaultfd(try serveUserfaultfd(at: socketPath, in: session))
    case (nil, true):
      guard connect == nil || recover == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "--connect and --recover exclude each other",
          hint: "QEMU does not listen when it waits for another server; give its monitor"
        )
      }
      guard !once else {
        throw VMCheckpointError(.invalidArgument, "--once goes with --uffd")
      }
      return .postcopy(try serveQEMU(in: session))
    default:
      throw VMCheckpointError(
        .invalidArgument,
        "give --uffd SOCKET, or --qemu",
        hint: "see: vmckpt help serve"
      )
    }
  }

  private func serveQEMU(in session: CommandSession) throws(VMCheckpointError) -> PostcopyOutput {
    let place: QEMUPostcopyRequest.Place
    if let recover {
      place = .recovery(monitorPath: recover)
    } else if let connect {
      place = .socket(path: connect)
    } else {
      place = .pipes(input: session.standardInput, output: session.standardOutput)
    }
    var request = QEMUPostcopyRequest(
      reference: try SnapshotReference(reference),
      place: place,
      overlays: overlays,
      tscFrequencyHz: retarget.tscFrequency,
      cpuVendor: retarget.cpuVendor
    )
    request.prefetches = !noPrefetch
    request.recordingSeconds = recordWorkingSet
    request.process = session.environment[QEMUPostcopy.processVariable].flatMap { Int32($0) }
    request.recoveredPath = session.environment[QEMUPostcopy.recoveryVariable]
    request.startDescriptor = session.environment[QEMUPostcopy.startVariable].flatMap { Int32($0) }
    let notices = session.environment[QEMUPostcopy.noticeVariable].flatMap { Int32($0) }
      .map { OutputDescriptor(descriptor: $0) }
    if !common.json {
      let errorOutput = OutputDescriptor(descriptor: session.standardError)
      let isRecovery = recover != nil
      request.onRun = { ready in
        let process = ready.process.map { " (process \($0))" } ?? ""
        try? errorOutput.write(
          "vmckpt: \(printable(ready.name)) \(isRecovery ? "goes on" : "runs") in QEMU\(process) "
            + "after \(HumanReadable.wholeMilliseconds(ready.seconds)) ms; its pages follow\n"
        )
      }
    }
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      var control = control
      if let notices {
        // Of `resume`, which reads the report at the end.
        control.onWarning = { [keep = control.onWarning] message in
          keep?(message)
          try? notices.write("vmckpt: warning: \(printable(message))\n")
        }
      }
      return try QEMUPostcopy.serve(request, storePath: storePath, control: control)
    }
    return PostcopyOutput(result, warnings: warnings)
  }

  private func serveUserfaultfd(
    at socketPath: String,
    in session: CommandSession
  ) throws(VMCheckpointError) -> ServeOutput {
    var request = ServeRequest(
      reference: try SnapshotReference(reference),
      socketPath: socketPath,
      overlays: overlays,
      tscFrequencyHz: retarget.tscFrequency,
      cpuVendor: retarget.cpuVendor
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
