import Foundation
import VMCheckpoint

/// What a snapshot of a QEMU guest knows beside RAM and the migration stream: a device state of its
/// own, in JSON that people can read.
package struct QEMUMachineRecord: Codable, Hashable {
  /// The machine's type with its version, such as `pc-q35-7.2`.
  var machine: String
  /// QEMU's blocks that are the guest's RAM, in the order in which they make up flat RAM.
  var ramBlocks: [RAMBlock]
  /// Where in the stream that is kept the RAM's pages belong.
  var ramOffset: Int
  /// Such as `7.2.22 (Debian 1:7.2+dfsg-7)`; only of a VM that was saved live.
  var qemuVersion: String?
  /// The arguments that QEMU was started with, itself first; only of a VM that was saved live.
  package var commandLine: [String]?
  /// Where relative paths in `commandLine` begin.
  package var workingDirectory: String?
  /// The disks that the guest could write to; only of a VM that was saved live, by a vmckpt that records them.
  package var disks: RecordedDisks?
  /// The proof that a user recorded these values on a host (``RecordedCommand``), in hexadecimal; only of a VM
  /// that was saved live, by a user who has a key.
  package var commandLineProof: String?

  /// A block of RAM.
  package struct RAMBlock: Codable, Hashable {
    /// QEMU's name of it; 1 to 255 bytes.
    var name: String
    /// A multiple of 4096.
    var byteCount: UInt64

    /// The block `name` of `byteCount` bytes.
    package init(name: String, byteCount: UInt64) {
      self.name = name
      self.byteCount = byteCount
    }

    private enum CodingKeys: String, CodingKey {
      case name
      case byteCount = "bytes"
    }

    /// The memory backend's id. Old machine types have its whole path for the block's name.
    var backendID: String {
      name.utf8.split(separator: UInt8(ascii: "/")).last.flatMap { String($0) } ?? name
    }
  }

  /// What a block's memory backend must be given so that its block has the recorded name; begins with a comma if it is
  /// not empty.
  ///
  /// Machine types up to 4.0 call the block of some backends after its whole path, and that of others not; for
  /// newer ones nothing need be said. A name of another form, as distributions have them, does not show how old
  /// the type is.
  func backendNaming(_ block: RAMBlock) -> String {
    let version = machine.split(separator: "-").last.map { $0.split(separator: ".") } ?? []
    if version.count == 2, let major = Int(version[0]), let minor = Int(version[1]),
      (major, minor) > (4, 0)
    {
      return ""
    }
    let hasPath = block.name.utf8.contains(UInt8(ascii: "/"))
    return ",x-use-canonical-path-for-ramblock-id=\(hasPath ? "on" : "off")"
  }

  private enum CodingKeys: String, CodingKey {
    case machine
    case ramBlocks = "ram_blocks"
    case ramOffset = "ram_offset"
    case qemuVersion = "qemu_version"
    case commandLine = "command_line"
    case workingDirectory = "working_directory"
    case disks
    case commandLineProof = "command_line_proof"
  }

  static let stateName = "qemu-machine"
  static let format = "vmckpt-qemu-machine"
  static let version: UInt32 = 1

  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  func deviceState() throws(VMCheckpointError) -> DeviceState {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    guard let json = try? encoder.encode(self) else {
      throw .invalidData("the description of the machine \(quotedName(machine)) is not text")
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
  package init(machine: String, ramBlocks: [RAMBlock], ramOffset: Int) {
    self.machine = machine
    self.ramBlocks = ramBlocks
    self.ramOffset = ramOffset
  }

  /// Whether the blocks are as they may be, and flat RAM of `byteCount` bytes.
  func blocksMakeUp(byteCount: UInt64) -> Bool {
    guard (1...QEMUStreamFormat.maximumBlockCount).contains(ramBlocks.count),
      Set(ramBlocks.map(\.name)).count == ramBlocks.count
    else { return false }
    var rest = byteCount
    for block in ramBlocks {
      guard (1...255).contains(block.name.utf8.count), block.byteCount > 0,
        block.byteCount % UInt64(Page.byteCount) == 0, block.byteCount <= rest
      else { return false }
      rest -= block.byteCount
    }
    return rest == 0
  }
}
