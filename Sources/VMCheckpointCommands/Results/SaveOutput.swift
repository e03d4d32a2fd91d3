package import VMCheckpoint

/// What `save` prints.
package struct SaveOutput: CommandOutput, Hashable {
  var name: String
  var uuid: String
  var vm: String
  @Nullable var parent: String?
  var ramBytes: UInt64
  var storedPages: UInt64
  var absentPages: UInt64
  var newPages: UInt64
  var newStoredBytes: UInt64
  var overlayCount: Int
  var deviceStateCount: Int
  var compression: ChunkCompression
  var digest: String
  var durationSeconds: Double
  @Nullable var pausedSeconds: Double?
  @Nullable var pauseMethod: PauseMethod?
  var stages: [StageOutput]
  var warnings: [String]
  /// Whether the text has the stages; JSON always does.
  var showsStages = false

  enum CodingKeys: String, CodingKey {
    case name, uuid, vm, parent
    case ramBytes = "ram_bytes"
    case storedPages = "stored_pages"
    case absentPages = "absent_pages"
    case newPages = "new_pages"
    case newStoredBytes = "new_stored_bytes"
    case overlayCount = "overlay_count"
    case deviceStateCount = "device_state_count"
    case compression, digest
    case durationSeconds = "duration_seconds"
    case pausedSeconds = "paused_seconds"
    case pauseMethod = "pause_method"
    case stages, warnings
  }

  /// What is printed of `result`.
  package init(_ result: SaveResult, warnings: [String], showsStages: Bool = false) {
    name = result.name
    uuid = result.uuid
    vm = result.vm
    parent = result.parent
    ramBytes = result.ramByteCount
    storedPages = result.storedPageCount
    absentPages = result.absentPageCount
    newPages = result.newPageCount
    newStoredBytes = result.newStoredByteCount
    overlayCount = result.overlayCount
    deviceStateCount = result.deviceStateCount
    compression = result.compression
    digest = result.digest
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    // JSON has no number that is not finite, and the number may be a stranger's.
    pausedSeconds = result.pausedSeconds.map(HumanReadable.milliseconds)
      .flatMap { $0.isFinite ? $0 : nil }
    pauseMethod = result.pauseMethod
    stages = result.stages.map { StageOutput($0) }
    self.warnings = warnings
    self.showsStages = showsStages
  }

  package var text: String {
    var fields = FieldList()
    fields.add("VM", vm)
    fields.add("Parent", parent)
    fields.addRAM(ramBytes, storedPages: storedPages, absentPages: absentPages)
    fields.addNewPages(newPages, storedBytes: newStoredBytes)
    fields.add("Overlays", "\(overlayCount)")
    fields.add("Device states", "\(deviceStateCount)")
    if let pausedSeconds {
      let method = pauseMethod.map { " (\($0.text))" } ?? ""
      fields.add("Paused", "\(HumanReadable.wholeMilliseconds(pausedSeconds)) ms\(method)")
    }
    fields.add("UUID", uuid)
    fields.add("Digest", digest)
    return "Saved \(printable(name)) in \(HumanReadable.seconds(durationSeconds))\n" + fields.text
      + (showsStages ? StageOutput.text(stages) : "")
  }
}

extension PauseMethod {
  /// For people.
  var text: String {
    switch self {
    case .twoPass: "RAM was read before, and compared"
    case .backgroundSnapshot: "background snapshot"
    case .precopy: "RAM was sent before"
    case .stopped: "for all of RAM"
    }
  }
}

extension FieldList {
  /// The RAM, how much of it is not zero, and how much is unknown, if any.
  mutating func addRAM(_ ramBytes: UInt64, storedPages: UInt64, absentPages: UInt64) {
    let (nonzero, overflow) = storedPages.multipliedReportingOverflow(by: 4096)
    let share = overflow ? nil : HumanReadable.percentage(nonzero, of: ramBytes)
    add("RAM", HumanReadable.bytes(ramBytes))
    add("Not zero", HumanReadable.pages(storedPages) + (share.map { " (\($0))" } ?? ""))
    if absentPages > 0 { add("Absent", HumanReadable.pages(absentPages)) }
  }

  /// The pages that no snapshot had before, and what they take.
  mutating func addNewPages(_ newPages: UInt64, storedBytes: UInt64) {
    let size = HumanReadable.pages(newPages)
    let count = HumanReadable.count(newPages, "page")
    add("New", "\(size) in \(count), stored in \(HumanReadable.bytes(storedBytes))")
  }
}
