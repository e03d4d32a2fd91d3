import VMCheckpoint

/// The snapshot of Cloud Hypervisor that a snapshot was saved from: a directory of the same files.
struct CloudHypervisorForm: RestorationForm {
  let name = "cloud-hypervisor"

  func check(_ request: RestoreRequest) throws(VMCheckpointError) {
    try RestoredDirectory.requirePath(request, format: name)
  }

  func plan(_ snapshot: PlannedSnapshot) throws -> any RestorationWriter {
    guard let config = try snapshot.deviceState(format: CloudHypervisorFiles.configFormat),
      let state = try snapshot.deviceState(format: CloudHypervisorFiles.stateFormat)
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(snapshot.title) was not saved from a Cloud Hypervisor snapshot, and cannot become one",
        hint: "restore its RAM with: --format raw"
      )
    }
    for state in [config, state] where state.version != CloudHypervisorFiles.formatVersion {
      throw VMCheckpointError(
        .invalidArgument,
        "\(snapshot.title) has version \(state.version) of \(state.format), which is unknown",
        hint: "use the vmckpt that saved it, or a later one"
      )
    }
    let parsed: CloudHypervisorState
    let layout: CloudHypervisorLayout
    do throws(VMCheckpointError) {
      parsed = try CloudHypervisorState(state.data)
      layout = try CloudHypervisorLayout(parsed)
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "\(snapshot.title) is damaged: its \(CloudHypervisorFiles.state) \(error.message)"
      )
    }
    guard layout.layout == snapshot.layout else {
      throw VMCheckpointError(
        .corrupt,
        "\(snapshot.title): its RAM and its \(CloudHypervisorFiles.state) do not belong together"
      )
    }
    let registers = try? HyperVMSRs(parsed.processors)
    return DirectoryWriter(
      directory: RestoredDirectory(
        ramNames: [CloudHypervisorFiles.memory],
        ram: RestoredForm(placement: layout.placement, parts: [], byteCount: layout.fileByteCount),
        files: [
          .init(name: CloudHypervisorFiles.config, bytes: config.data),
          .init(name: CloudHypervisorFiles.state, bytes: state.data),
        ]
      ),
      warnings: { registers?.disagreements(with: $0) ?? [] }
    )
  }
}
