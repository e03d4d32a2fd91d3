import Foundation

/// What a snapshot of a QEMU guest knows beside RAM and the migration stream: a device state of its
/// own, in JSON that people can read.
struct QEMUMachineRecord: Codable, Hashable {
  /// The machine's type with its version, such as `pc-q35-7.2`.
  var machine: String
  /// QEMU's name of the block that is the guest's RAM.
  var ramBlock: String
  var ramByteCount: UInt64
  /// Where in the stream that is kept the RAM's pages belong.
  var ramOffset: Int
  /// Such as `7.2.22 (Debian 1:7.2+dfsg-7)`; only of a VM that was saved live.
  var qemuVersion: String?
  /// The arguments that QEMU was started with, itself first; only of a VM that was saved live.
  var commandLine: [String]?
  /// Where relative paths in `commandLine` begin.
  var workingDirectory: String?

  private enum CodingKeys: String, CodingKey {
    case machine
    case ramBlock = "ram_block"
    case ramByteCount = "ram_bytes"
    case ramOffset = "ram_offset"
    case qemuVersion = "qemu_version"
    case commandLine = "command_line"
    case workingDirectory = "working_directory"
  }

  static let stateName = "qemu-machine"
  static let format = "vmckpt-qemu-machine"
  static let version: UInt32 = 1

  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  func deviceState() throws(VMCheckpointError) -> DeviceState {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    guard let json = try? encoder.encode(self) else {
      throw .invalidData("the description of the machine \(quotedName(machine)) is no text")
    }
    return DeviceState(
      name: Self.stateName,
      format: Self.format,
      version: Self.version,
      data: Array(json) + [UInt8(ascii: "\n")]
    )
  }

  /// - Throws: ``VMCheckpointError`` with the code `corrupt`.
  init(json: [UInt8], of title: String) throws(VMCheckpointError) {
    do {
      self = try JSONDecoder().decode(Self.self, from: Data(json))
    } catch {
      throw VMCheckpointError(.corrupt, "\(title): its description of the machine is damaged")
    }
  }

  /// Makes one with these values.
  init(machine: String, ramBlock: String, ramByteCount: UInt64, ramOffset: Int) {
    self.machine = machine
    self.ramBlock = ramBlock
    self.ramByteCount = ramByteCount
    self.ramOffset = ramOffset
  }
}
