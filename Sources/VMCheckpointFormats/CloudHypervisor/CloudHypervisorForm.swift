import VMCheckpoint

/// The snapshot of Cloud Hypervisor that a snapshot was saved from: a directory of the same files.
struct CloudHypervisorForm: RestorationForm {
  let name = "cloud-hypervisor"
  let isDirectory = true

  func check(_ target: RestoreTarget) throws(VMCheckpointError) {
    try RestoredDirectory.requirePath(target, format: name)
  }

  func keeps(_ state: DeviceState) -> Bool {
    [CloudHypervisorFiles.configFormat, CloudHypervisorFiles.stateFormat].contains(state.format)
  }

  func plan(_ guest: any RestorableGuest) throws -> any RestorationWriter {
    guard let config = try guest.deviceState(format: CloudHypervisorFiles.configFormat),
      let state = try guest.deviceState(format: CloudHypervisorFiles.stateFormat)
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(guest.title) has no state of Cloud Hypervisor, and cannot become a snapshot of it",
        hint: "its RAM alone is written by: --format raw"
      )
    }
    for state in [config, state] where state.version != CloudHypervisorFiles.formatVersion {
      throw VMCheckpointError(
        .invalidArgument,
        "\(guest.title) has version \(state.version) of \(state.format), which is unknown",
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
        "\(guest.title) is damaged: its \(CloudHypervisorFiles.state) \(error.message)"
      )
    }
    guard layout.layout == guest.layout else {
      throw VMCheckpointError(
        .corrupt,
        "\(guest.title): its RAM and its \(CloudHypervisorFiles.state) do not belong together"
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
