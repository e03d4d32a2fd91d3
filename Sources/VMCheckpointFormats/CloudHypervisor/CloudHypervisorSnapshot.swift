public import VMCheckpoint

/// A snapshot of Cloud Hypervisor: a directory with the VM's configuration, its state and its RAM.
struct CloudHypervisorSnapshot: MemoryFormat {
  let name = "cloud-hypervisor"
  let summary = "A snapshot of Cloud Hypervisor, a directory with all its files"
  let form: RestoreFormat? = .cloudHypervisor
  let describesLayout = true

  func recognizes(directory path: String) -> Bool {
    let directory = SourceDirectory(path: path)
    // One that is not there is missed by name.
    return directory.has(CloudHypervisorFiles.memory)
      && (directory.has(CloudHypervisorFiles.config) || directory.has(CloudHypervisorFiles.state))
      || directory.has(CloudHypervisorFiles.config) && directory.has(CloudHypervisorFiles.state)
  }

  func input(_ source: SourceReference) throws(VMCheckpointError) -> RAMInput {
    guard case .path(let path) = source.place else {
      throw VMCheckpointError(
        .invalidArgument,
        "a Cloud Hypervisor snapshot cannot be read from standard input",
        hint: "give its directory"
      )
    }
    return .cloudHypervisor(directory: path)
  }
}

/// The files of a snapshot.
enum CloudHypervisorFiles {
  static let config = "config.json"
  static let state = "state.json"
  static let memory = "memory-ranges"

  /// The formats of the device states that hold the first two, byte for byte.
  static let configFormat = "cloud-hypervisor-config"
  static let stateFormat = "cloud-hypervisor-state"
  static let formatVersion: UInt32 = 1

  /// A configuration has some KiB.
  static let maximumConfigByteCount = 16 << 20
  /// 512 virtual processors of 50 KiB, twice that for devices, and room.
  static let maximumStateByteCount = 128 << 20
}

extension RAMInput {
  /// A snapshot of Cloud Hypervisor, RAM read in place. It says where RAM is; its configuration and state are
  /// kept as device states.
  public static func cloudHypervisor(directory: String) -> RAMInput {
    RAMInput(CloudHypervisorSource(directory: directory))
  }
}

extension RestoreFormat {
  /// A snapshot of Cloud Hypervisor, each of whose files is equal to the one that was saved.
  public static let cloudHypervisor = RestoreFormat(CloudHypervisorForm())
}
