package import VMCheckpoint

/// What `restore` prints.
package struct RestoreOutput: CommandOutput, Hashable {
  var name: String
  var uuid: String
  /// `nil`: standard output.
  @Nullable var path: String?
  @Nullable var overlaysPath: String?
  var fileBytes: UInt64
  var storedPages: UInt64
  var absentPages: UInt64
  var appliedOverlayCount: Int
  var writtenDeviceStates: Int
  var verified: Bool
  var durationSeconds: Double
  var stages: [StageOutput]
  var warnings: [String]
  /// Whether the text has the stages; JSON always does.
  var showsStages = false

  enum CodingKeys: String, CodingKey {
    case name, uuid, path
    case overlaysPath = "overlays_path"
    case fileBytes = "file_bytes"
    case storedPages = "stored_pages"
    case absentPages = "absent_pages"
    case appliedOverlayCount = "applied_overlay_count"
    case writtenDeviceStates = "written_device_states"
    case verified
    case durationSeconds = "duration_seconds"
    case stages, warnings
  }

  /// What is printed of `result`.
  package init(
    _ result: RestoreResult,
    overlaysPath: String?,
    warnings: [String],
    showsStages: Bool = false
  ) {
    name = result.name
    uuid = result.uuid
    path = result.path
    self.overlaysPath = overlaysPath
    fileBytes = result.fileByteCount
    storedPages = result.storedPageCount
    absentPages = result.absentPageCount
    appliedOverlayCount = result.appliedOverlayCount
    writtenDeviceStates = result.writtenDeviceStateCount
    verified = result.verifiedPages
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    stages = result.stages.map { StageOutput($0) }
    self.warnings = warnings
    self.showsStages = showsStages
  }

  package var text: String {
    let target = path.map(printable) ?? "standard output"
    let time = HumanReadable.seconds(durationSeconds)
    var fields = FieldList()
    fields.add("Size", HumanReadable.bytes(fileBytes))
    fields.add("Not zero", HumanReadable.pages(storedPages))
    if absentPages > 0 { fields.add("Absent", HumanReadable.pages(absentPages)) }
    fields.add("Overlays", "\(appliedOverlayCount) applied")
    if writtenDeviceStates > 0 { fields.add("Device states", "\(writtenDeviceStates) written") }
    if let overlaysPath { fields.add("Described in", overlaysPath) }
    fields.add("Verified", verified ? "every page's SHA-256" : "no")
    return "Restored \(printable(name)) to \(target) in \(time)\n" + fields.text
      + (showsStages ? StageOutput.text(stages) : "")
  }
}
