import VMCheckpoint

/// A VM that QEMU runs, by its monitor's socket; restored, a directory to run it from.
struct QEMUMonitor: MemoryFormat {
  let name = "qemu"
  let summary = "A VM that QEMU runs, by its QMP socket; restored, a directory to run it from"
  let form: RestoreFormat? = .qemu
  let savesLive = true

  func input(_ source: SourceReference) -> RAMInput {
    // A socket may be called "-": the format reads no streams.
    var path = "-"
    if case .path(let given) = source.place {
      // As -qmp has it, without its options.
      path = given.hasPrefix("unix:") ? String(given.dropFirst(5).prefix { $0 != "," }) : given
    }
    return .qemuLive(
      QEMULiveSource(
        socketPath: path,
        leavesStopped: source.leavesStopped,
        maximumPauseSeconds: source.maximumPauseSeconds,
        guardCommand: source.guardCommand
      )
    )
  }
}
