import Foundation
package import VMCheckpoint

/// A disk that a VM could write to when it was saved.
///
/// Disks are not captured. This is what shows later whether one is as it was.
package struct RecordedDisk: Codable, Hashable, Sendable {
  /// The id of its `-drive`; empty for one of `-blockdev`.
  package var device: String
  /// QEMU's name of the node that the guest's device uses.
  package var node: String
  /// What the guest sees.
  package var virtualByteCount: UInt64
  /// Whether reading the image needs a secret.
  package var isEncrypted: Bool
  /// The image that the guest writes to, then what it is based on, each on the next.
  package var images: [Image]

  /// One file of a disk.
  package struct Image: Codable, Hashable, Sendable {
    /// As QEMU has it: a path, relative to QEMU's working directory, or a URI.
    package var name: String
    /// QEMU's name of the format, such as `qcow2`.
    package var format: String
    /// `nil`: it is not a file, or could not be looked at.
    package var identity: FileIdentity?

    private enum CodingKeys: String, CodingKey {
      case name = "file"
      case format, identity
    }

    /// Makes one with these values.
    package init(name: String, format: String, identity: FileIdentity?) {
      self.name = name
      self.format = format
      self.identity = identity
    }
  }

  private enum CodingKeys: String, CodingKey {
    case device, node
    case virtualByteCount = "virtual_bytes"
    case isEncrypted = "encrypted"
    case images
  }

  /// Makes one with these values.
  package init(
    device: String,
    node: String,
    virtualByteCount: UInt64,
    isEncrypted: Bool = false,
    images: [Image]
  ) {
    self.device = device
    self.node = node
    self.virtualByteCount = virtualByteCount
    self.isEncrypted = isEncrypted
    self.images = images
  }
}

/// The disks of a VM that was saved live, as its machine record has them.
package struct RecordedDisks: Codable, Hashable, Sendable {
  /// The version of this description.
  package static let currentVersion = 1
  /// No machine of QEMU's takes more disks than some hundreds, nor is any chain of images as long.
  private static let maximumCount = 1024
  private static let maximumImageCount = 256
  /// QEMU's own limit on names of images is PATH_MAX, or 1024 bytes in an image.
  private static let maximumNameByteCount = 8192
  /// 1 PiB: more than any image of QEMU's formats.
  static let maximumVirtualByteCount: UInt64 = 1 << 50

  package var version: Int
  package var disks: [RecordedDisk]

  /// These disks.
  package init(_ disks: [RecordedDisk]) {
    version = Self.currentVersion
    self.disks = disks
  }

  /// On one line.
  package var json: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
  }

  /// Reads ``json``.
  ///
  /// - Throws: ``VMCheckpointError`` as ``requireSound(of:)``.
  package init(json: [UInt8]) throws(VMCheckpointError) {
    do {
      self = try JSONDecoder().decode(Self.self, from: Data(json))
    } catch {
      throw VMCheckpointError(.corrupt, "the description of disks is damaged")
    }
    try requireSound(of: "the VM")
  }

  /// Checks what was stored, which may be a stranger's.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt`, or `invalidData` when a newer vmckpt wrote it.
  package func requireSound(of title: String) throws(VMCheckpointError) {
    guard version == Self.currentVersion else {
      throw .invalidData(
        "\(title): the version of its description of disks is unknown",
        hint: "use a newer vmckpt"
      )
    }
    let isSound =
      disks.count <= Self.maximumCount
      && disks.allSatisfy { disk in
        ([disk.device, disk.node] + disk.images.flatMap { [$0.name, $0.format] }).allSatisfy {
          $0.utf8.count <= Self.maximumNameByteCount && !$0.utf8.contains(0)
        } && (1...Self.maximumImageCount).contains(disk.images.count)
          && disk.virtualByteCount <= Self.maximumVirtualByteCount
      }
    guard isSound else {
      throw VMCheckpointError(.corrupt, "\(title): its description of disks is damaged")
    }
  }
}

extension ProvedMessage {
  mutating func append(_ disks: RecordedDisks?) {
    append(list: disks.map { [$0] } ?? []) { disks, message in
      message.append(UInt64(bitPattern: Int64(disks.version)))
      message.append(list: disks.disks) { disk, message in
        message.append(disk.device)
        message.append(disk.node)
        message.append(disk.virtualByteCount)
        message.append(disk.isEncrypted ? 1 : 0)
        message.append(list: disk.images) { image, message in
          message.append(image.name)
          message.append(image.format)
          message.append(list: image.identity.map { [$0] } ?? []) { identity, message in
            message.append(identity.byteCount)
            message.append(UInt64(bitPattern: identity.modifiedNanoseconds))
            message.append(identity.device)
            message.append(identity.inode)
          }
        }
      }
    }
  }
}
