import Foundation
import Glibc
import VMCheckpoint

/// The disks that a running VM may write to, as QEMU reports them.
///
/// It asks QEMU before the guest is stopped, and looks at the files when it is: when a migration is completed, QEMU
/// has written all of its images' contents and gives them up, until the guest goes on.
struct QEMUDiskSurvey {
  private struct Disk {
    var device: String
    var node: String
    var virtualByteCount: UInt64
    var isEncrypted: Bool
    /// Names, the paths of those that are files, and formats.
    var images: [(name: String, isFile: Bool, format: String)]
  }

  private let disks: [Disk]
  private let process: QEMUProcess
  private let workingDirectory: String?

  /// Drivers whose images hold nothing.
  private static let emptyDrivers: Set<String> = ["null-co", "null-aio"]

  /// - Returns: `nil` when QEMU does not report its disks.
  init?(_ client: QMPClient, process: QEMUProcess) {
    guard let devices = (try? client.run("query-block")) as? [[String: Any]],
      let nodes = (try? client.run("query-named-block-nodes", ["flat": true])) as? [[String: Any]]
    else { return nil }
    // What the driver of files opened, by its name; devices of the host have no contents that a time shows.
    let files = Set(
      nodes.filter { $0["drv"] as? String == "file" }.compactMap { $0["file"] as? String }
    )
    self.process = process
    workingDirectory = process.workingDirectory
    disks = devices.compactMap { device in
      guard let inserted = device["inserted"] as? [String: Any],
        inserted["ro"] as? Bool != true, let image = inserted["image"] as? [String: Any],
        !Self.emptyDrivers.contains(inserted["drv"] as? String ?? "")
      else { return nil }
      return Disk(
        device: device["device"] as? String ?? "",
        node: inserted["node-name"] as? String ?? "",
        virtualByteCount: (image["virtual-size"] as? NSNumber)?.uint64Value ?? 0,
        isEncrypted: inserted["encrypted"] as? Bool == true
          || image["encrypted"] as? Bool == true,
        images: Self.images(image, files: files)
      )
    }
  }

  /// What is wrong with what is recorded, for the user.
  var warnings: [String] {
    disks.compactMap { $0.images.first?.name }.filter(PrivateDirectory.holds).map { name in
      "disk \(quotedName(name)) is a throw-away overlay, as `vmckpt resume --disks overlay` makes it, and goes with this "
        + "VM; the snapshot cannot be resumed without it"
    }
  }

  /// An image and what it is based on.
  private static func images(
    _ top: [String: Any],
    files: Set<String>
  ) -> [(name: String, isFile: Bool, format: String)] {
    var images: [(name: String, isFile: Bool, format: String)] = []
    var next: [String: Any]? = top
    while let image = next {
      let given = image["filename"] as? String ?? ""
      let name = path(given) ?? given
      images.append((name, files.contains(name), image["format"] as? String ?? ""))
      next = image["backing-image"] as? [String: Any]
    }
    return images
  }

  /// The path in a name that QEMU made of an image's options: "json:" and an object, whose member `file` may be
  /// such an object again.
  private static func path(_ name: String) -> String? {
    let mark = "json:"
    guard name.utf8.starts(with: mark.utf8) else { return nil }
    var next = QEMUOptionText.json(
      String(decoding: name.utf8.dropFirst(mark.utf8.count), as: UTF8.self)
    )
    while let object = next {
      if object["driver"] as? String == "file" { return object["filename"] as? String }
      next = object["file"] as? [String: Any]
    }
    return nil
  }

  /// The disks as they are at this moment.
  func record() -> RecordedDisks {
    let open = process.openFiles
    return RecordedDisks(
      disks.map { disk in
        RecordedDisk(
          device: disk.device,
          node: disk.node,
          virtualByteCount: disk.virtualByteCount,
          isEncrypted: disk.isEncrypted,
          images: disk.images.map { image in
            RecordedDisk.Image(
              name: image.name,
              format: image.format,
              identity: image.isFile ? identity(image.name, among: open) : nil
            )
          }
        )
      }
    )
  }

  /// - Parameter open: What QEMU has open; `nil`: this user may not look. Another file may have come in its place,
  ///   or QEMU may run where the name leads elsewhere.
  private func identity(_ name: String, among open: Set<[UInt64]>?) -> FileIdentity? {
    var status = stat()
    let isAbsolute = name.utf8.first == UInt8(ascii: "/")
    let path = isAbsolute ? name : workingDirectory.map { "\($0)/\(name)" } ?? name
    guard stat(path, &status) == 0, let identity = FileIdentity(status),
      open?.contains([identity.device, identity.inode]) != false
    else { return nil }
    return identity
  }
}
