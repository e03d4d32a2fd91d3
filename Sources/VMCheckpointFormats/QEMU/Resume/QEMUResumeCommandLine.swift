import Glibc
import VMCheckpoint

/// The command line that resumes a guest: the recorded one as ``QEMURestoredCommand`` changes it, or the user's own.
struct QEMUResumeCommandLine {
  /// The name of the monitor's socket in the folder of a resumed guest.
  static let monitorName = "qmp"
  static let postcopyProperty = "migration.x-postcopy-ram=on"

  /// Where relative paths begin.
  let workingDirectory: String?
  private let record: QEMUMachineRecord
  /// QEMU and its arguments, without RAM, and without where the guest comes from.
  private let command: [String]
  private let nodesNameBackends: Bool

  /// Checks the recorded disks, or makes overlays for them, unless the command line is the user's own.
  ///
  /// - Parameter overlayFolder: An empty folder for overlays, which whoever calls removes when QEMU has ended.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when there is no command line; `permissionDenied` for a
  ///   recorded one that is not trusted; else as
  ///   ``QEMURestoredCommand/init(_:disks:overlayFolder:workingDirectory:)``.
  init(
    _ state: QEMUStoredState,
    request: QEMUResumeRequest,
    overlayFolder: String
  ) throws(VMCheckpointError) {
    record = state.record
    let own = request.arguments
    guard !own.contains(where: { $0.utf8.contains(0) }) else {
      throw VMCheckpointError(.invalidArgument, "an argument for QEMU has a NUL")
    }
    guard own.first != "" else {
      throw VMCheckpointError(.invalidArgument, "the first argument for QEMU is empty")
    }
    if let program = own.first, !program.utf8.starts(with: "-".utf8) {
      workingDirectory = request.workingDirectory
      command = own
      nodesNameBackends = false
      return
    }
    guard let recorded = record.commandLine, !recorded.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(state.title) has no command line of QEMU: it was saved from a stream",
        hint: state.isOfLibvirt
          ? "libvirt runs it: vmckpt restore REF --format libvirt-save -o FILE, then virsh restore FILE"
          : "give QEMU's command line, as the guest was started: vmckpt resume REF -- "
            + "qemu-system-x86_64 ARGUMENTS"
      )
    }
    guard !recorded.contains(where: { $0.utf8.contains(0) }) else {
      throw .invalidData("\(state.title): the recorded command line of QEMU has a NUL")
    }
    if !request.trustsCommand, case .untrusted(let reason) = state.trust {
      throw Self.untrusted(recorded, reason, state.title)
    }
    let restored = try QEMURestoredCommand(
      state,
      disks: request.diskMode,
      overlayFolder: overlayFolder,
      workingDirectory: request.workingDirectory
    )
    workingDirectory = request.workingDirectory ?? record.workingDirectory
    try Self.requireFreeSockets(restored.words + own, in: workingDirectory ?? ".", state.title)
    nodesNameBackends = restored.nodesNameBackends
    command = restored.words + own
  }

  /// A QEMU takes the place of a socket that another one has at the same path. The guest that was saved may still run;
  /// then nothing would reach its monitor any more.
  private static func requireFreeSockets(
    _ words: [String],
    in directory: String,
    _ title: String
  ) throws(VMCheckpointError) {
    let paths = QEMUCommandLine(words).listeningSockets
    guard !paths.isEmpty else { return }
    let taken = ListeningSockets.now
    guard let path = paths.first(where: { taken.contains($0, in: directory) }) else { return }
    throw VMCheckpointError(
      .unavailable,
      "another program listens at \(quotedName(path)), where \(title) would listen: its guest may be running",
      hint: "end it first; or give a whole command line of QEMU's behind --, with other sockets"
    )
  }

  /// The error for a command line that is not to be run unseen: it is a program, and may be a stranger's.
  static func untrusted(
    _ recorded: [String],
    _ reason: CommandTrust.Reason,
    _ title: String
  ) -> VMCheckpointError {
    let words = recorded.map(QEMURunScript.quoted).joined(separator: " ")
    return VMCheckpointError(
      .permissionDenied,
      "the recorded command line of \(title) is not trusted: \(reason). It would run: "
        + quotedName(words).dropFirst().dropLast(),
      hint: "if you trust it, give --trust-command; or give one of your own behind --"
    )
  }

  /// The whole command line for a postcopy migration from a descriptor: RAM is anonymous.
  ///
  /// - Parameters:
  ///   - isStopped: Whether the guest was stopped when it was saved. The migration would let it run.
  ///   - monitorPath: Where QEMU is to listen for a monitor.
  func postcopy(from descriptor: Int32, isStopped: Bool, monitorPath: String) -> [String] {
    let monitor = "unix:\(QEMUOptionText.escapingCommas(monitorPath)),server=on,wait=off"
    return command + machine { _ in "memory-backend-ram" }
      + ["-global", Self.postcopyProperty, "-qmp", monitor]
      + (isStopped ? ["-S"] : []) + ["-incoming", "fd:\(descriptor)"]
  }

  /// The whole command line for a restored directory, or one that looks like it: RAM is mapped privately.
  ///
  /// - Parameters:
  ///   - ramNames: The files of the blocks of RAM; `nil`: those that a restore writes.
  ///   - descriptor: Where the devices' state comes from.
  func restored(
    in directory: String,
    ramNames: [String]? = nil,
    stateFrom descriptor: Int32
  ) -> [String] {
    let path = QEMUOptionText.escapingCommas(directory)
    return command
      + machine { index in
        let name =
          ramNames?[index] ?? QEMUDirectoryRestore.ramName(index, of: record.ramBlocks.count)
        return "memory-backend-file,share=off,mem-path=\(path)/\(name)"
      } + ["-incoming", "fd:\(descriptor)"]
  }

  private func machine(backend: (Int) -> String) -> [String] {
    var arguments: [String] = []
    for (index, block) in record.ramBlocks.enumerated() {
      let id = QEMUOptionText.escapingCommas(block.backendID)
      arguments += [
        "-object",
        "\(backend(index)),id=\(id),size=\(block.byteCount)\(record.backendNaming(block))",
      ]
    }
    var machine = "type=\(QEMUOptionText.escapingCommas(record.machine))"
    if !nodesNameBackends {
      machine += ",memory-backend=\(QEMUOptionText.escapingCommas(record.ramBlocks[0].backendID))"
    }
    return arguments + ["-machine", machine]
  }
}
