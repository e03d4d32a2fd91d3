import VMCheckpoint

/// The two files of a Firecracker snapshot: the vmstate that was saved, and a full memory file.
struct FirecrackerForm: RestorationForm {
  let name = "firecracker"
  let isDirectory = true

  func check(_ target: RestoreTarget) throws(VMCheckpointError) {
    try RestoredDirectory.requirePath(target, format: name)
  }

  func keeps(_ state: DeviceState) -> Bool {
    state.format == FirecrackerFiles.stateFormat
  }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    guard let stored = try guest.deviceState(format: FirecrackerFiles.stateFormat) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(guest.title) has no state of Firecracker, and cannot become a snapshot of it",
        hint: "its RAM alone is written by: --format raw"
      )
    }
    guard stored.version == FirecrackerFiles.stateVersion else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(guest.title) has version \(stored.version) of \(stored.format), which is unknown",
        hint: "use the vmckpt that saved it, or a later one"
      )
    }
    let state: FirecrackerState
    let layout: FirecrackerLayout
    do throws(VMCheckpointError) {
      state = try FirecrackerState(stored.data)
      layout = try FirecrackerLayout(state, stored: guest.layout)
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "\(guest.title) is damaged: its vmstate \(error.message)"
      )
    }
    let registers = state.registers.flatMap { try? HyperVMSRs($0) }
    return DirectoryWriter(
      directory: RestoredDirectory(
        ramNames: [FirecrackerFiles.memoryName],
        ram: RestoredForm(
          placement: RAMPlacement(flat: layout.layout),
          parts: [],
          byteCount: layout.fileByteCount
        ),
        files: [.init(name: FirecrackerFiles.stateName, bytes: stored.data)]
      ),
      warnings: { registers?.disagreements(with: $0) ?? [] }
    )
  }
}
