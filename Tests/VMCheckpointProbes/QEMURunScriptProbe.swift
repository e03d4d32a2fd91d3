import VMCheckpointFormats

/// The script that runs a restored VM, for tests.
package enum QEMURunScriptProbe {
  /// The script for a VM with one block of RAM of 4096 bytes.
  package static func text(
    machine: String = "q35",
    ramBlock: String = "pc.ram",
    commandLine: [String]?,
    workingDirectory: String? = nil
  ) throws -> String {
    var record = QEMUMachineRecord(
      machine: machine,
      ramBlocks: [.init(name: ramBlock, byteCount: 4096)],
      ramOffset: 6
    )
    record.commandLine = commandLine
    record.workingDirectory = workingDirectory
    return try QEMURunScript(record).text()
  }
}
