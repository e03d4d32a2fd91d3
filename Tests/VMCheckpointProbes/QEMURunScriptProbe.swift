package import VMCheckpointFormats

/// The script that runs a restored VM, for tests.
package enum QEMURunScriptProbe {
  /// The script for a VM with one block of RAM of 4096 bytes.
  package static func text(
    machine: String = "q35",
    ramBlock: String = "pc.ram",
    commandLine: [String]?,
    workingDirectory: String? = nil,
    trust: QEMURunScript.Trust = .given,
    disks: RecordedDisks? = RecordedDisks([]),
    diskProgram: String? = nil
  ) throws -> String {
    var record = QEMUMachineRecord(
      machine: machine,
      ramBlocks: [.init(name: ramBlock, byteCount: 4096)],
      ramOffset: 6
    )
    record.commandLine = commandLine
    record.workingDirectory = workingDirectory
    record.disks = disks
    return try QEMURunScript(record, trust: trust, diskProgram: diskProgram).text()
  }

  /// A command line with an overlay `/o/disk.N` for each disk.
  package static func words(
    _ commandLine: [String],
    withOverlaysFor disks: [RecordedDisk]
  ) throws -> [String] {
    let overlays = disks.enumerated().map {
      DiskOverlay(disk: $1, path: "/o/disk.\($0)")
    }
    return try QEMUDiskReplacement.replacing(overlays, in: QEMUCommandLine(commandLine)).words
  }
}
