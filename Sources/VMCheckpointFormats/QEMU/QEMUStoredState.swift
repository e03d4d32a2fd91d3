import VMCheckpoint

/// A snapshot's machine record and migration stream, read back and checked.
struct QEMUStoredState {
  /// The format of the device state that a guest of libvirt's has besides.
  static let libvirtFormat = "libvirt-save-header"

  /// What messages call the guest.
  let title: String
  let record: QEMUMachineRecord
  /// A whole stream but for RAM's pages, which belong at `record.ramOffset`.
  let stream: [UInt8]
  /// The id of the stream's RAM section.
  let sectionID: UInt32
  /// Whether libvirt ran the guest, and can take it again.
  let isOfLibvirt: Bool

  /// - Throws: ``VMCheckpointError``: `invalidArgument` when the snapshot is of no QEMU guest,
  ///   `corrupt` when what is stored makes no sense.
  init(_ guest: any RestorableGuest) throws {
    guard
      let recordJSON = try Self.load(QEMUMachineRecord.format, QEMUMachineRecord.version, guest),
      let stream = try Self.load(QEMUStreamCapture.streamFormat, QEMUStreamFormat.version, guest)
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(guest.title) has no device state of QEMU",
        hint:
          "its RAM alone is written by --format raw; qemu-stream: or qemu: as the source has both"
      )
    }
    title = guest.title
    isOfLibvirt = try guest.deviceState(format: Self.libvirtFormat) != nil
    record = try QEMUMachineRecord(json: recordJSON, of: guest.title)
    self.stream = stream
    let offset = record.ramOffset
    guard record.blocksMakeUp(byteCount: guest.layout.fileByteCount), offset > 5,
      offset < stream.count,
      stream[offset - 5] == QEMUStreamFormat.Section.footer
    else {
      throw VMCheckpointError(
        .corrupt,
        "\(guest.title): its RAM and its description of the machine do not belong together"
      )
    }
    sectionID = stream[(offset - 4)..<offset].reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// Whether the recorded command line may run without asking. Reads this user's key.
  var trust: CommandTrust { RecordedCommand.trust(of: record, stream: stream) }

  /// Whether a device state is one of those that make it up.
  static func has(_ state: DeviceState) -> Bool {
    [QEMUMachineRecord.format, QEMUStreamCapture.streamFormat].contains(state.format)
  }

  private static func load(
    _ format: String,
    _ version: UInt32,
    _ guest: any RestorableGuest
  ) throws -> [UInt8]? {
    guard let state = try guest.deviceState(format: format) else { return nil }
    guard state.version == version else {
      throw VMCheckpointError(
        .invalidData,
        "\(guest.title): the version of device state \(quotedName(state.name)) is unknown",
        hint: "use a newer vmckpt"
      )
    }
    return state.data
  }
}
