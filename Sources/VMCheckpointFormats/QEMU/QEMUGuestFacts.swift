package import VMCheckpoint

/// What a snapshot of a QEMU guest has to show beside RAM and devices.
package struct QEMUGuestFacts: Sendable {
  /// The format of the device state that has them.
  package static let stateFormat = QEMUMachineRecord.format

  /// QEMU's type with its version.
  package let machine: String
  /// `nil`: the guest came in a stream.
  package let commandLine: [String]?
  package let workingDirectory: String?
  /// Whether the command line may run without asking.
  package let trust: CommandTrust
  /// `nil`: they were not recorded.
  package let disks: RecordedDisks?

  /// Reads them from a snapshot's device states, and this user's key.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt`, or `invalidData` when a newer vmckpt wrote them.
  package init(_ states: [DeviceState]) throws(VMCheckpointError) {
    let title = "the snapshot"
    guard let state = states.first(where: { $0.format == Self.stateFormat }),
      let stream = states.first(where: { $0.format == QEMUStreamCapture.streamFormat })
    else { throw VMCheckpointError(.corrupt, "\(title) has lost device states of QEMU") }
    let record = try QEMUMachineRecord(json: state.data, of: title)
    try record.disks?.requireSound(of: title)
    machine = record.machine
    commandLine = record.commandLine
    workingDirectory = record.workingDirectory
    disks = record.disks
    trust = RecordedCommand.trust(of: record, stream: stream.data)
  }
}
