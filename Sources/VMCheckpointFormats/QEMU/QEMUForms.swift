public import VMCheckpoint

/// A QEMU migration stream.
struct QEMUStreamForm: RestorationForm {
  let name = "qemu-stream"

  func keeps(_ state: DeviceState) -> Bool { QEMUStoredState.has(state) }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    QEMUStreamRestore(try QEMUStoredState(guest))
  }
}

/// A directory to run a VM from.
struct QEMUDirectoryForm: RestorationForm {
  let name = "qemu"
  /// Whether the user trusts the recorded command line, whoever recorded it.
  var trustsCommand = false
  let isDirectory = true

  func check(_ target: RestoreTarget) throws(VMCheckpointError) {
    try RestoredDirectory.requirePath(target, format: name)
  }

  func keeps(_ state: DeviceState) -> Bool { QEMUStoredState.has(state) }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    QEMUDirectoryRestore(try QEMUStoredState(guest), trustsCommand: trustsCommand)
  }
}

extension RestoreFormat {
  /// A QEMU migration stream with RAM and device state, for `-incoming`.
  public static let qemuStream = RestoreFormat(QEMUStreamForm())

  /// A directory with RAM, device state, and a script that runs the VM in QEMU.
  public static let qemu = RestoreFormat(QEMUDirectoryForm())

  /// The same, with a script that runs the recorded command line whoever recorded it: a command line is a
  /// program, and the user has read and trusts it.
  public static let qemuTrustingCommand = RestoreFormat(QEMUDirectoryForm(trustsCommand: true))
}
