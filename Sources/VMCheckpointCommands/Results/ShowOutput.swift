import VMCheckpoint
import VMCheckpointFormats

/// What `show` prints: a summary's keys and these.
package struct ShowOutput: CommandOutput, Hashable {
  var summary: SummaryOutput
  var source: String
  var producer: String
  @Nullable var cpuVendor: String?
  @Nullable var tscFrequencyHz: UInt64?
  var absentPages: UInt64
  var memoryRegions: [RegionOutput]
  var children: [String]

  /// An overlays.json.
  var overlays: JSONValue
  @Nullable var overlayOrigin: String?

  var deviceStates: [DeviceStateOutput]
  @Nullable var workingSet: WorkingSetOutput?
  /// `nil`: it is not a guest of QEMU's.
  @Nullable var qemu: QEMUGuestOutput?

  enum CodingKeys: String, CodingKey {
    case source, producer
    case cpuVendor = "cpu_vendor"
    case tscFrequencyHz = "tsc_frequency_hz"
    case absentPages = "absent_pages"
    case memoryRegions = "memory_regions"
    case children, overlays
    case overlayOrigin = "overlay_origin"
    case deviceStates = "device_states"
    case workingSet = "working_set"
    case qemu
  }

  init(_ detail: SnapshotDetail, qemu: QEMUGuestFacts? = nil) {
    summary = SummaryOutput(detail.summary)
    source = detail.source
    producer = detail.producer
    cpuVendor = detail.cpuVendor?.rawValue
    tscFrequencyHz = detail.tscFrequencyHz
    absentPages = detail.absentPageCount
    memoryRegions = detail.regions.map(RegionOutput.init)
    children = detail.children
    do {
      overlays = try JSONValue(json: detail.overlays.encodedJSON())
    } catch {
      preconditionFailure("the library encoded overlays that are not JSON: \(error)")
    }
    overlayOrigin = detail.overlayOrigin
    deviceStates = detail.deviceStates.map(DeviceStateOutput.init)
    workingSet = detail.workingSet.map(WorkingSetOutput.init)
    self.qemu = qemu.map(QEMUGuestOutput.init)
  }

  package init(from decoder: any Decoder) throws {
    summary = try SummaryOutput(from: decoder)
    let container = try decoder.container(keyedBy: CodingKeys.self)
    source = try container.decode(String.self, forKey: .source)
    producer = try container.decode(String.self, forKey: .producer)
    _cpuVendor = try container.decode(Nullable<String>.self, forKey: .cpuVendor)
    _tscFrequencyHz = try container.decode(Nullable<UInt64>.self, forKey: .tscFrequencyHz)
    absentPages = try container.decode(UInt64.self, forKey: .absentPages)
    memoryRegions = try container.decode([RegionOutput].self, forKey: .memoryRegions)
    children = try container.decode([String].self, forKey: .children)
    overlays = try container.decode(JSONValue.self, forKey: .overlays)
    _overlayOrigin = try container.decode(Nullable<String>.self, forKey: .overlayOrigin)
    deviceStates = try container.decode([DeviceStateOutput].self, forKey: .deviceStates)
    _workingSet = try container.decode(Nullable<WorkingSetOutput>.self, forKey: .workingSet)
    _qemu = try container.decode(Nullable<QEMUGuestOutput>.self, forKey: .qemu)
  }

  package func encode(to encoder: any Encoder) throws {
    try summary.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(source, forKey: .source)
    try container.encode(producer, forKey: .producer)
    try container.encode(_cpuVendor, forKey: .cpuVendor)
    try container.encode(_tscFrequencyHz, forKey: .tscFrequencyHz)
    try container.encode(absentPages, forKey: .absentPages)
    try container.encode(memoryRegions, forKey: .memoryRegions)
    try container.encode(children, forKey: .children)
    try container.encode(overlays, forKey: .overlays)
    try container.encode(_overlayOrigin, forKey: .overlayOrigin)
    try container.encode(deviceStates, forKey: .deviceStates)
    try container.encode(_workingSet, forKey: .workingSet)
    try container.encode(_qemu, forKey: .qemu)
  }
}

/// A device state without its data, with the names of the table `device_state`.
struct DeviceStateOutput: Codable, Hashable, Sendable {
  var name: String
  var format: String
  var version: UInt32
  var bytes: UInt64
  var storedBytes: UInt64
  var sha256: String

  enum CodingKeys: String, CodingKey {
    case name, format, version, bytes
    case storedBytes = "stored_bytes"
    case sha256
  }

  init(_ state: DeviceStateSummary) {
    name = state.name
    format = state.format
    version = state.version
    bytes = state.byteCount
    storedBytes = state.storedByteCount
    sha256 = state.sha256
  }
}

/// A recorded working set without its pages.
struct WorkingSetOutput: Codable, Hashable, Sendable {
  var snapshot: String
  var door: String
  var recordedAt: String
  var durationSeconds: Double
  var pages: UInt64
  var runs: UInt64

  enum CodingKeys: String, CodingKey {
    case snapshot, door
    case recordedAt = "recorded_at"
    case durationSeconds = "duration_seconds"
    case pages, runs
  }

  init(_ summary: WorkingSet.Summary) {
    snapshot = summary.snapshot
    door = summary.door
    recordedAt = summary.recordedAt
    durationSeconds = HumanReadable.milliseconds(summary.durationSeconds)
    pages = summary.pageCount
    runs = summary.runCount
  }

  /// In a line of text about the snapshot `name`.
  func text(for name: String) -> String {
    let origin = snapshot == name ? "" : ", from \(printable(snapshot))"
    return
      "\(HumanReadable.count(pages, "page")) in \(HumanReadable.count(runs, "run")), recorded in "
      + "\(HumanReadable.seconds(durationSeconds)) (\(printable(door)))\(origin)"
  }
}
