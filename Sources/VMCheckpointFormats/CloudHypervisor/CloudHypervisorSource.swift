import SystemPackage
import VMCheckpoint

/// A snapshot of Cloud Hypervisor, as something to save.
struct CloudHypervisorSource: CaptureSource {
  let directory: String

  var path: String? { files.file(CloudHypervisorFiles.memory) }

  /// All files of the snapshot.
  var readPaths: [String] { [directory] }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: directory)
    return CaptureNames(snapshot: name, vm: name, description: "cloud-hypervisor:\(directory)")
  }

  private var files: SourceDirectory { SourceDirectory(path: directory) }
  private var title: String { "Cloud Hypervisor snapshot \(quotedName(directory))" }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    try context.requireNoLayout(title)
    guard SourceDirectory.exists(at: directory) else {
      throw VMCheckpointError(
        SourceDirectory.byteCount(ofFileAt: directory) == nil ? .notFound : .invalidData,
        "\(title) is not a directory"
      )
    }
    let config = try read(
      CloudHypervisorFiles.config,
      maximumByteCount: CloudHypervisorFiles.maximumConfigByteCount
    )
    let stateJSON = try read(
      CloudHypervisorFiles.state,
      maximumByteCount: CloudHypervisorFiles.maximumStateByteCount
    )
    try continuing(CloudHypervisorFiles.config) { () throws(VMCheckpointError) in
      try Self.checkConfig(config)
    }
    let (state, layout) = try continuing(CloudHypervisorFiles.state) {
      () throws(VMCheckpointError) in
      let state = try CloudHypervisorState(stateJSON)
      return (state, try CloudHypervisorLayout(state))
    }
    let ram = try openRAM(layout)
    var guest = CapturedGuest(layout: layout.layout, placement: layout.placement, files: ram)
    guest.deviceStates = [
      Self.deviceState(CloudHypervisorFiles.config, CloudHypervisorFiles.configFormat, config),
      Self.deviceState(CloudHypervisorFiles.state, CloudHypervisorFiles.stateFormat, stateJSON),
    ]
    if context.looksForOverlays {
      guest.overlays = try continuing(CloudHypervisorFiles.state) { () throws(VMCheckpointError) in
        let registers = try HyperVMSRs(state.processors)
        let overlays = try registers.overlayDocument { pfn throws(VMCheckpointError) in
          try ram.page(at: pfn, layout.placement)
        }
        return FoundOverlays(overlays, origin: "cloud-hypervisor-msrs")
      }
    }
    for warning in try warnings(state, layout) {
      context.control.onWarning?("\(title): \(warning)")
    }
    return try use(guest)
  }

  private func read(
    _ name: String,
    maximumByteCount: Int
  ) throws(VMCheckpointError) -> [UInt8] {
    try SourceDirectory.read(
      files.file(name),
      noun: "Cloud Hypervisor file",
      maximumByteCount: maximumByteCount
    )
  }

  private func continuing<Result>(
    _ name: String,
    _ body: () throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    do throws(VMCheckpointError) {
      return try body()
    } catch {
      guard error.code == .invalidData else { throw error }
      throw error.continuing("Cloud Hypervisor file \(quotedName(files.file(name)))")
    }
  }

  private static func checkConfig(_ json: [UInt8]) throws(VMCheckpointError) {
    _ = try StrictJSONObject(
      StrictJSONReader.read(
        json,
        maximumValueCount: 1 << 20,
        maximumStringByteCount: max(1, json.count)
      ),
      at: JSONPath()
    )
  }

  private func openRAM(_ layout: CloudHypervisorLayout) throws(VMCheckpointError) -> OpenRAMFiles {
    let path = files.file(CloudHypervisorFiles.memory)
    let noun = "Cloud Hypervisor file"
    let (descriptor, byteCount) = try FileRAMReader.open(path: path, noun: noun)
    guard byteCount == layout.fileByteCount else {
      try? descriptor.close()
      throw .invalidData(
        "\(noun) \(quotedName(path)) has \(byteCount) bytes, and \(CloudHypervisorFiles.state) describes "
          + "\(layout.fileByteCount)"
      )
    }
    return OpenRAMFiles([.init(descriptor: descriptor, path: path)])
  }

  private static func deviceState(_ name: String, _ format: String, _ data: [UInt8]) -> DeviceState
  {
    DeviceState(
      name: name,
      format: format,
      version: CloudHypervisorFiles.formatVersion,
      data: data
    )
  }

  /// What of the VM is not saved.
  private func warnings(
    _ state: CloudHypervisorState,
    _ layout: CloudHypervisorLayout
  ) throws(VMCheckpointError) -> [String] {
    var warnings = state.warnings
    if let first = layout.missing.first {
      let byteCount = layout.missing.reduce(0) { $0 &+ $1.byteCount }
      warnings.append(
        "\(byteCount) bytes of RAM, the first at GPA \(hexString(first.gpa)), are not in "
          + "\(CloudHypervisorFiles.memory) and are not saved: they are in a file of the host's, or not "
          + "plugged in"
      )
    }
    let known = [
      CloudHypervisorFiles.config, CloudHypervisorFiles.state, CloudHypervisorFiles.memory,
    ]
    for name in try files.names().filter({ !known.contains($0) }).prefix(8) {
      warnings.append("its file \(quotedName(name)) is not kept")
    }
    return warnings
  }
}
