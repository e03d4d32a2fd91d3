import VMCheckpoint

/// A snapshot's machine record and migration stream, read back and checked.
struct QEMUStoredState {
  let record: QEMUMachineRecord
  /// A whole stream but for RAM's pages, which belong at `record.ramOffset`.
  let stream: [UInt8]
  /// The id of the stream's RAM section.
  let sectionID: UInt32

  /// - Throws: ``VMCheckpointError``: `invalidArgument` when the snapshot is of no QEMU guest,
  ///   `corrupt` when what is stored makes no sense.
  init(_ snapshot: PlannedSnapshot) throws {
    guard
      let recordJSON = try Self.load(QEMUMachineRecord.format, QEMUMachineRecord.version, snapshot),
      let stream = try Self.load(QEMUStreamCapture.streamFormat, QEMUStreamFormat.version, snapshot)
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(snapshot.title) has no device state of QEMU",
        hint: "restore its RAM with --format raw; save with qemu-stream: or qemu: to have both"
      )
    }
    record = try QEMUMachineRecord(json: recordJSON, of: snapshot.title)
    self.stream = stream
    let offset = record.ramOffset
    guard record.blocksMakeUp(byteCount: snapshot.layout.fileByteCount), offset > 5,
      offset < stream.count,
      stream[offset - 5] == QEMUStreamFormat.Section.footer
    else {
      throw VMCheckpointError(
        .corrupt,
        "\(snapshot.title): its RAM and its description of the machine do not belong together"
      )
    }
    sectionID = stream[(offset - 4)..<offset].reduce(0) { $0 << 8 | UInt32($1) }
  }

  private static func load(
    _ format: String,
    _ version: UInt32,
    _ snapshot: PlannedSnapshot
  ) throws -> [UInt8]? {
    guard let state = try snapshot.deviceState(format: format) else { return nil }
    guard state.version == version else {
      throw VMCheckpointError(
        .invalidData,
        "\(snapshot.title): the version of device state \(quotedName(state.name)) is unknown",
        hint: "use a newer vmckpt"
      )
    }
    return state.data
  }
}
