import VMCheckpoint

/// Restores a snapshot as a directory to run the VM from: RAM, device state, and a script.
///
/// The state is a migration stream without RAM's pages: RAM that no stream brings stays as it is,
/// and so QEMU takes it from the file.
struct QEMUDirectoryRestore: RestorationWriter {
  /// The file of the block of RAM with this index.
  static func ramName(_ index: Int, of blockCount: Int) -> String {
    blockCount == 1 ? "ram" : "ram.\(index)"
  }
  static let stateName = "device.state"
  static let scriptName = "run.sh"

  let state: QEMUStoredState
  let hyperV: QEMUHyperVState
  /// Whether the user trusts the recorded command line, whoever recorded it.
  let trustsCommand: Bool

  init(_ state: QEMUStoredState, trustsCommand: Bool) {
    self.state = state
    self.trustsCommand = trustsCommand
    hyperV = QEMUHyperVState(state.stream, ramOffset: state.record.ramOffset)
  }

  func leavesToVMM(_ overlay: Overlay) -> Bool { hyperV.covers(overlay) }

  func write(_ restore: Restoration) throws -> UInt64 {
    hyperV.warn(of: restore)
    let blocks = state.record.ramBlocks
    let script = try QEMURunScript(state, trustsCommand: trustsCommand)
    if let reason = script.reasonToAsk {
      restore.control.onWarning?(
        "the recorded command line is not trusted, and \(Self.scriptName) will show it and not run it without "
          + "--trust-command: \(reason)"
      )
    }
    let text = try script.text()
    try RestoredDirectory(
      ramNames: blocks.indices.map { Self.ramName($0, of: blocks.count) },
      ram: RestoredForm(restore.layout, fileByteCounts: blocks.map(\.byteCount)),
      files: [
        .init(name: Self.stateName, bytes: state.stream),
        .init(name: Self.scriptName, bytes: Array(text.utf8), isExecutable: true),
      ]
    ).write(restore)
    return restore.layout.fileByteCount
  }
}
