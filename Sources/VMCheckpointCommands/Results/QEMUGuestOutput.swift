import VMCheckpointFormats

/// What `show` prints of a guest of QEMU's.
struct QEMUGuestOutput: Codable, Hashable, Sendable {
  var machine: String
  /// `nil`: the guest came in a stream.
  @Nullable var commandLine: [String]?
  @Nullable var workingDirectory: String?
  /// `own-record`, or why the command line does not run without asking.
  var commandTrust: String
  /// `nil`: they were not recorded.
  @Nullable var disks: [Disk]?

  enum CodingKeys: String, CodingKey {
    case machine
    case commandLine = "command_line"
    case workingDirectory = "working_directory"
    case commandTrust = "command_trust"
    case disks
  }

  /// For people.
  var trustText: String {
    switch CommandTrust(name: commandTrust) {
    case .ownRecord: "recorded here by this user"
    case .untrusted(.notRecorded): "not recorded"
    case .untrusted(let reason): "not trusted: \(reason)"
    case nil: commandTrust
    }
  }

  /// A disk that the guest could write to, as it was when the VM was saved.
  struct Disk: Codable, Hashable, Sendable {
    var device: String
    var node: String
    var virtualBytes: UInt64
    var encrypted: Bool
    var images: [Image]

    enum CodingKeys: String, CodingKey {
      case device, node
      case virtualBytes = "virtual_bytes"
      case encrypted, images
    }
  }

  /// A file of a disk. All but its name and format is `nil` of what could not be looked at.
  struct Image: Codable, Hashable, Sendable {
    var file: String
    var format: String
    @Nullable var bytes: UInt64?
    @Nullable var modifiedNanoseconds: Int64?
    @Nullable var inode: UInt64?
    @Nullable var fileSystem: UInt64?
    enum CodingKeys: String, CodingKey {
      case file, format, bytes
      case modifiedNanoseconds = "mtime_ns"
      case inode
      case fileSystem = "device"
    }

    init(_ image: RecordedDisk.Image) {
      file = image.name
      format = image.format
      bytes = image.identity?.byteCount
      modifiedNanoseconds = image.identity?.modifiedNanoseconds
      inode = image.identity?.inode
      fileSystem = image.identity?.device
    }

    /// For people.
    var modifiedTime: String? { modifiedNanoseconds.map(FileIdentity.time(nanoseconds:)) }
  }

  init(_ facts: QEMUGuestFacts) {
    machine = facts.machine
    commandLine = facts.commandLine
    workingDirectory = facts.workingDirectory
    commandTrust = facts.trust.name
    disks = facts.disks?.disks.map { disk in
      Disk(
        device: disk.device,
        node: disk.node,
        virtualBytes: disk.virtualByteCount,
        encrypted: disk.isEncrypted,
        images: disk.images.map(Image.init)
      )
    }
  }
}
