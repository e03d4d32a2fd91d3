import VMCheckpoint

/// The two files of a Firecracker snapshot: the vmstate that was saved, and a full memory file.
struct FirecrackerForm: RestorationForm {
  let name = "firecracker"

  func check(_ request: RestoreRequest) throws(VMCheckpointError) {
    try RestoredDirectory.requirePath(request, format: name)
  }

  func plan(_ snapshot: PlannedSnapshot) throws -> any RestorationWriter {
    guard let stored = try snapshot.deviceState(format: FirecrackerFiles.stateFormat) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(snapshot.title) was not saved from a Firecracker snapshot, and cannot become one",
        hint: "restore its RAM with: --format raw"
      )
    }
    guard stored.version == FirecrackerFiles.stateVersion else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(snapshot.title) has version \(stored.version) of \(stored.format), which is unknown",
        hint: "use the vmckpt that saved it, or a later one"
      )
    }
    let state: FirecrackerState
    let layout: FirecrackerLayout
    do throws(VMCheckpointError) {
      state = try FirecrackerState(stored.data)
      layout = try FirecrackerLayout(state, stored: snapshot.layout)
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "\(snapshot.title) is damaged: its vmstate \(error.message)"
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
