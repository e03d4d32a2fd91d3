import VMCheckpoint

/// The recorded command line of a VM that is started again, with its disks seen to. Whether it may run without asking
/// is ``QEMUStoredState/trust``'s to say.
struct QEMURestoredCommand {
  /// QEMU and its arguments, without RAM, and without where the guest comes from.
  let words: [String]
  /// Whether NUMA nodes name the backends of RAM, so that the machine must not.
  let nodesNameBackends: Bool

  /// Checks the disks, or makes overlays for them, as `mode` says.
  ///
  /// - Parameters:
  ///   - overlayFolder: An empty folder for overlays, which whoever calls removes when QEMU has ended.
  ///   - workingDirectory: Where relative paths begin; `nil`: where they did when the VM was saved.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when there is no recorded command line, or no overlay can take
  ///   a disk's place; else as ``RecordedDisks/check(workingDirectory:forOverlays:)``.
  init(
    _ state: QEMUStoredState,
    disks mode: DiskMode,
    overlayFolder: String? = nil,
    workingDirectory: String? = nil
  ) throws(VMCheckpointError) {
    guard let recorded = state.record.commandLine, !recorded.isEmpty else {
      throw VMCheckpointError(.invalidArgument, "\(state.title) has no recorded command line")
    }
    var commandLine = QEMUCommandLine(recorded)
    commandLine.keepRestored(ramBlocks: state.record.ramBlocks)
    nodesNameBackends = commandLine.nodesName(ramBlocks: state.record.ramBlocks)
    let place = workingDirectory ?? state.record.workingDirectory
    switch (mode, state.record.disks) {
    case (.asIs, _), (.check, nil): break
    case (.check, let disks?): try disks.check(workingDirectory: place)
    case (.overlay, nil):
      throw VMCheckpointError(
        .invalidArgument,
        "the disks of \(state.title) were not recorded: no overlays can be made"
      )
    case (.overlay, let disks?):
      guard let overlayFolder else { preconditionFailure("overlays need a folder") }
      try disks.check(workingDirectory: place, forOverlays: true)
      let overlays = try disks.overlays(in: overlayFolder, workingDirectory: place)
      commandLine = try QEMUDiskReplacement.replacing(overlays, in: commandLine)
    }
    words = commandLine.words
  }
}
