import VMCheckpoint

/// The command line that resumes a guest: the recorded one as ``QEMURunScript`` changes it, or the user's own.
struct QEMUResumeCommandLine {
  /// Where relative paths begin.
  let workingDirectory: String?
  private let record: QEMUMachineRecord
  /// QEMU and its arguments, without RAM, and without where the guest comes from.
  private let command: [String]
  private let nodesNameBackends: Bool

  /// - Throws: ``VMCheckpointError``: `invalidArgument` when there is no command line; `permissionDenied` for a
  ///   recorded one that is not trusted.
  init(
    _ record: QEMUMachineRecord,
    request: QEMUResumeRequest,
    title: String
  ) throws(VMCheckpointError) {
    self.record = record
    let own = request.arguments
    if let program = own.first, !program.utf8.starts(with: "-".utf8) {
      workingDirectory = request.workingDirectory
      command = own
      nodesNameBackends = false
      return
    }
    guard let recorded = record.commandLine, let program = recorded.first else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(title) has no command line of QEMU: it was saved from a stream",
        hint: "give QEMU's command line, as the guest was started: vmckpt resume REF -- "
          + "qemu-system-x86_64 ARGUMENTS"
      )
    }
    guard !(recorded + own).contains(where: { $0.utf8.contains(0) }) else {
      throw .invalidData("\(title): the recorded command line of QEMU has a NUL")
    }
    guard request.trustsCommand else { throw Self.untrusted(recorded, of: title) }
    let kept = QEMURunScript(record).kept(Array(recorded.dropFirst()))
    workingDirectory = request.workingDirectory ?? record.workingDirectory
    nodesNameBackends = kept.nodesNameBackends
    command = [program] + kept.arguments + own
  }

  /// The error for a command line that is not to be run unseen: it is a program, and may be a stranger's.
  static func untrusted(_ recorded: [String], of title: String) -> VMCheckpointError {
    let words = recorded.map(QEMURunScript.quoted).joined(separator: " ")
    return VMCheckpointError(
      .permissionDenied,
      "\(title) would be resumed by a command line that is stored with it: "
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
    let monitor = "unix:\(QEMURunScript.escapingCommas(monitorPath)),server=on,wait=off"
    return command + machine { _ in "memory-backend-ram" }
      + ["-global", "migration.x-postcopy-ram=on", "-qmp", monitor]
      + (isStopped ? ["-S"] : []) + ["-incoming", "fd:\(descriptor)"]
  }

  /// The whole command line for a restored directory: RAM is mapped privately.
  func restored(in directory: String) -> [String] {
    let path = QEMURunScript.escapingCommas(directory)
    let state = QEMURunScript.quoted("\(directory)/\(QEMUDirectoryRestore.stateName)")
    return command
      + machine { index in
        let name = QEMUDirectoryRestore.ramName(index, of: record.ramBlocks.count)
        return "memory-backend-file,share=off,mem-path=\(path)/\(name)"
      } + ["-incoming", "exec:cat -- \(state)"]
  }

  private func machine(backend: (Int) -> String) -> [String] {
    var arguments: [String] = []
    for (index, block) in record.ramBlocks.enumerated() {
      let id = QEMURunScript.escapingCommas(block.backendID)
      arguments += ["-object", "\(backend(index)),id=\(id),size=\(block.byteCount)"]
    }
    var machine = "type=\(QEMURunScript.escapingCommas(record.machine))"
    if !nodesNameBackends {
      machine += ",memory-backend=\(QEMURunScript.escapingCommas(record.ramBlocks[0].backendID))"
    }
    return arguments + ["-machine", machine]
  }
}
