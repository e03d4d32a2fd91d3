import Foundation
import Glibc
import SystemPackage
package import VMCheckpoint

/// What a restored VM does with the disks of the one that was saved.
package enum DiskMode: String, CaseIterable, Sendable {
  /// Uses them, if they are as they were.
  case check
  /// Writes to overlays that are thrown away, if they are as they were.
  case overlay
  /// Uses them, whatever they hold.
  case asIs = "as-is"
}

/// An overlay that a VM writes to in place of a disk.
package struct DiskOverlay: Sendable, Hashable {
  package var disk: RecordedDisk
  /// A qcow2 image, based on the disk's.
  package var path: String

  /// Makes one with these values; writes nothing.
  package init(disk: RecordedDisk, path: String) {
    self.disk = disk
    self.path = path
  }
}

extension RecordedDisks {
  private static let hint =
    "bring the disk back as it was, or use it as it is with --disks as-is, which may damage it"

  /// Checks that each disk is as it was when the VM was saved, and that nobody else uses it.
  ///
  /// QEMU locks the images that it opens by itself, but says that a disk is in use only when the guest is to go on.
  ///
  /// - Parameters:
  ///   - workingDirectory: Where relative names begin; `nil`: this process's.
  ///   - forOverlays: The disks are to be read only, which others may do at once.
  /// - Throws: ``VMCheckpointError``: `locked` when a disk is in use, `notFound` when it is gone, `invalidData` when
  ///   it changed, `unavailable` when nothing shows whether it did, `permissionDenied`.
  package func check(
    workingDirectory: String? = nil,
    forOverlays: Bool = false
  ) throws(VMCheckpointError) {
    try requireSound(of: "the VM")
    for disk in disks {
      for (index, image) in disk.images.enumerated() {
        try Self.check(
          image,
          workingDirectory: workingDirectory,
          isWritten: index == 0 && !forOverlays
        )
      }
    }
  }

  private static func check(
    _ image: RecordedDisk.Image,
    workingDirectory: String?,
    isWritten: Bool
  ) throws(VMCheckpointError) {
    let title = "the disk \(quotedName(image.name))"
    guard let identity = image.identity else {
      throw VMCheckpointError(
        .unavailable,
        "\(title) could not be looked at when the VM was saved: nothing shows whether it has changed",
        hint: hint
      )
    }
    let path = absolute(image.name, workingDirectory)
    let opened = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard opened >= 0 else {
      let error = Errno(rawValue: errno)
      switch error {
      case .noSuchFileOrDirectory, .notDirectory:
        throw VMCheckpointError(.notFound, "\(title) is gone since the VM was saved", hint: hint)
      case .permissionDenied, .notPermitted:
        throw VMCheckpointError(.permissionDenied, "no permission to read \(title)")
      default:
        throw VMCheckpointError(.inputOutput, "cannot open \(title): \(error)")
          .orOutOfResources(error)
      }
    }
    defer { close(opened) }
    guard !QEMUImageLock.isInUse(opened, forWriting: isWritten) else {
      throw VMCheckpointError(
        .locked,
        "\(title) is in use by another program",
        hint: isWritten
          ? "end it first; clones of a VM need --disks overlay"
          : "end it first: it writes to the disk"
      )
    }
    var status = stat()
    guard fstat(opened, &status) == 0, let now = FileIdentity(status) else {
      throw VMCheckpointError(.invalidData, "\(title) is not a file any more", hint: hint)
    }
    if let difference = identity.difference(from: now) {
      throw .invalidData("\(title) has changed since the VM was saved: \(difference)", hint: hint)
    }
  }

  /// Makes an overlay for each disk that was checked: an empty qcow2 image on top of it, without the help of
  /// `qemu-img`. Whoever calls removes the folder when the VM has ended.
  ///
  /// - Parameters:
  ///   - folder: The path of an empty folder.
  ///   - workingDirectory: Where relative names of disks begin; `nil`: this process's.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when a disk cannot be the base of one, `cannotCreate`.
  package func overlays(
    in folder: String,
    workingDirectory: String? = nil
  ) throws(VMCheckpointError) -> [DiskOverlay] {
    try requireSound(of: "the VM")
    var overlays: [DiskOverlay] = []
    for (index, disk) in disks.enumerated() {
      try disk.requireOverlay()
      let overlay = DiskOverlay(disk: disk, path: Self.overlayPath(index, in: folder))
      let image = QCOW2Overlay(
        virtualByteCount: disk.virtualByteCount,
        basePath: Self.absolute(
          disk.images[0].name,
          workingDirectory ?? FileManager.default.currentDirectoryPath
        ),
        baseFormat: disk.images[0].format
      )
      try image.write(to: overlay.path)
      overlays.append(overlay)
    }
    return overlays
  }

  /// The path of the overlay for the disk with this index.
  static func overlayPath(_ index: Int, in folder: String) -> String { "\(folder)/disk.\(index)" }

  private static func absolute(_ name: String, _ directory: String?) -> String {
    guard let directory, name.utf8.first != UInt8(ascii: "/") else { return name }
    return "\(directory)/\(name)"
  }
}

extension RecordedDisk {
  /// The formats of images that a qcow2 image may be based on. What else QEMU calls so are filters.
  private static let baseFormats: Set<String> = [
    "raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels", "file",
  ]

  /// Checks that an overlay can be made for the disk.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  func requireOverlay() throws(VMCheckpointError) {
    if images[0].identity == nil { throw noOverlay("it is not a file that could be looked at") }
    if isEncrypted { throw noOverlay("it is encrypted") }
    guard Self.baseFormats.contains(images[0].format) else {
      throw noOverlay("its format is \(quotedName(images[0].format))")
    }
  }

  /// The error that says so.
  func noOverlay(_ reason: String) -> VMCheckpointError {
    VMCheckpointError(
      .invalidArgument,
      "no overlay can take the place of the disk \(quotedName(images[0].name)): \(reason)",
      hint: "copy the disk, and run QEMU with a command line of your own that names the copy"
    )
  }
}
