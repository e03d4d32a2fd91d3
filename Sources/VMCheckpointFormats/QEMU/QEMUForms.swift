public import VMCheckpoint

/// A QEMU migration stream.
struct QEMUStreamForm: RestorationForm {
  let name = "qemu-stream"

  func plan(_ snapshot: PlannedSnapshot) throws -> any RestorationWriter {
    QEMUStreamRestore(try QEMUStoredState(snapshot))
  }
}

/// A directory to run a VM from.
struct QEMUDirectoryForm: RestorationForm {
  let name = "qemu"

  func check(_ request: RestoreRequest) throws(VMCheckpointError) {
    try RestoredDirectory.requirePath(request, format: name)
  }

  func plan(_ snapshot: PlannedSnapshot) throws -> any RestorationWriter {
    QEMUDirectoryRestore(try QEMUStoredState(snapshot))
  }
}

extension RestoreFormat {
  /// A QEMU migration stream with RAM and device state, for `-incoming`.
  public static let qemuStream = RestoreFormat(QEMUStreamForm())

  /// A directory with RAM, device state, and a script that runs the VM in QEMU.
  public static let qemu = RestoreFormat(QEMUDirectoryForm())
}
