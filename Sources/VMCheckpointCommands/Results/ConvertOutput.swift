package import VMCheckpoint

/// What `convert` prints.
package struct ConvertOutput: CommandOutput, Hashable {
  var source: String
  var format: String
  /// `nil`: standard output.
  @Nullable var path: String?
  @Nullable var overlaysPath: String?
  var ramBytes: UInt64
  var fileBytes: UInt64
  var storedPages: UInt64
  var absentPages: UInt64
  var overlayCount: Int
  var appliedOverlayCount: Int
  var deviceStateCount: Int
  var durationSeconds: Double
  @Nullable var pausedSeconds: Double?
  var stages: [StageOutput]
  var warnings: [String]
  /// Whether the text has the stages; JSON always does.
  var showsStages = false

  enum CodingKeys: String, CodingKey {
    case source, format, path
    case overlaysPath = "overlays_path"
    case ramBytes = "ram_bytes"
    case fileBytes = "file_bytes"
    case storedPages = "stored_pages"
    case absentPages = "absent_pages"
    case overlayCount = "overlay_count"
    case appliedOverlayCount = "applied_overlay_count"
    case deviceStateCount = "device_state_count"
    case durationSeconds = "duration_seconds"
    case pausedSeconds = "paused_seconds"
    case stages, warnings
  }

  /// What is printed of `result`.
  package init(
    _ result: ConvertResult,
    overlaysPath: String?,
    warnings: [String],
    showsStages: Bool = false
  ) {
    source = result.source
    format = result.format
    path = result.path
    self.overlaysPath = overlaysPath
    ramBytes = result.ramByteCount
    fileBytes = result.fileByteCount
    storedPages = result.storedPageCount
    absentPages = result.absentPageCount
    overlayCount = result.overlayCount
    appliedOverlayCount = result.appliedOverlayCount
    deviceStateCount = result.deviceStateCount
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    // JSON has no number that is not finite, and the number may be a stranger's.
    pausedSeconds = result.pausedSeconds.map(HumanReadable.milliseconds)
      .flatMap { $0.isFinite ? $0 : nil }
    stages = result.stages.map { StageOutput($0) }
    self.warnings = warnings
    self.showsStages = showsStages
  }

  package var text: String {
    let target = path.map(printable) ?? "standard output"
    let time = HumanReadable.seconds(durationSeconds)
    var fields = FieldList()
    fields.add("Format", format)
    fields.add("Size", HumanReadable.bytes(fileBytes))
    fields.addRAM(ramBytes, storedPages: storedPages, absentPages: absentPages)
    fields.add("Overlays", "\(overlayCount), \(appliedOverlayCount) applied")
    if let overlaysPath { fields.add("Described in", overlaysPath) }
    fields.add("Device states", "\(deviceStateCount)")
    if let pausedSeconds {
      fields.add("Paused", "\(HumanReadable.wholeMilliseconds(pausedSeconds)) ms")
    }
    return "Converted \(printable(source)) to \(target) in \(time)\n" + fields.text
      + (showsStages ? StageOutput.text(stages) : "")
  }
}
