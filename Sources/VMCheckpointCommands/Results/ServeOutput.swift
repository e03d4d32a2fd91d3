package import VMCheckpoint

/// What `serve` prints at its end.
package struct ServeOutput: CommandOutput, Hashable {
  var name: String
  var uuid: String
  var socket: String
  @Nullable var lease: Int64?
  var vms: UInt64
  var completeVMs: UInt64
  var faults: UInt64
  var faultPages: UInt64
  var zeroPages: UInt64
  var workingSetPages: UInt64
  var backgroundPages: UInt64
  var removedPages: UInt64
  var poisonedPages: UInt64
  var decodedChunks: UInt64
  var remoteChunks: UInt64
  var remoteBytes: UInt64
  var remoteWaits: UInt64
  var remoteWaitSeconds: Double
  @Nullable var faultSecondsP50: Double?
  @Nullable var faultSecondsP99: Double?
  @Nullable var workingSetOf: String?
  var workingSetRecorded: Bool
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case name, uuid, socket, lease, vms
    case completeVMs = "complete_vms"
    case faults
    case faultPages = "fault_pages"
    case zeroPages = "zero_pages"
    case workingSetPages = "working_set_pages"
    case backgroundPages = "background_pages"
    case removedPages = "removed_pages"
    case poisonedPages = "poisoned_pages"
    case decodedChunks = "decoded_chunks"
    case remoteChunks = "remote_chunks"
    case remoteBytes = "remote_bytes"
    case remoteWaits = "remote_waits"
    case remoteWaitSeconds = "remote_wait_seconds"
    case faultSecondsP50 = "fault_seconds_p50"
    case faultSecondsP99 = "fault_seconds_p99"
    case workingSetOf = "working_set_of"
    case workingSetRecorded = "working_set_recorded"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ result: ServeResult, warnings: [String]) {
    name = result.name
    uuid = result.uuid
    socket = result.socketPath
    lease = result.leaseID
    vms = result.vmCount
    completeVMs = result.completeVMCount
    faults = result.counts.faultCount
    faultPages = result.counts.faultPageCount
    zeroPages = result.counts.zeroPageCount
    workingSetPages = result.counts.workingSetPageCount
    backgroundPages = result.counts.backgroundPageCount
    removedPages = result.counts.removedPageCount
    poisonedPages = result.counts.poisonedPageCount
    decodedChunks = result.counts.decodedChunkCount
    remoteChunks = result.counts.remoteChunkCount
    remoteBytes = result.counts.remoteByteCount
    remoteWaits = result.counts.remoteWaitCount
    remoteWaitSeconds = HumanReadable.milliseconds(result.counts.remoteWaitSeconds)
    faultSecondsP50 = result.counts.faultSecondsP50
    faultSecondsP99 = result.counts.faultSecondsP99
    workingSetOf = result.playedWorkingSet?.snapshot
    workingSetRecorded = result.hasRecordedWorkingSet
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    var fields = FieldList()
    fields.add("VMs", "\(vms), \(completeVMs) with all pages")
    fields.add("Faults", faultText)
    fields.add(
      "In place",
      "\(faultPages) for faults, "
        + (workingSetOf == nil ? "" : "\(workingSetPages) of the working set, ")
        + "\(backgroundPages) in the background"
    )
    fields.add("Zeros", HumanReadable.count(zeroPages, "page"))
    if removedPages > 0 { fields.add("Given back", HumanReadable.count(removedPages, "page")) }
    if poisonedPages > 0 { fields.add("Damaged", HumanReadable.count(poisonedPages, "page")) }
    fields.add("Decoded", HumanReadable.count(decodedChunks, "chunk"))
    if remoteChunks > 0 || remoteWaits > 0 {
      fields.add(
        "From the remote",
        RemoteReads.text(
          chunkCount: remoteChunks,
          byteCount: remoteBytes,
          waitCount: remoteWaits,
          waitSeconds: remoteWaitSeconds
        )
      )
    }
    fields.add("Working set", workingSetText)
    return "Served \(printable(name)) for \(HumanReadable.seconds(durationSeconds))\n" + fields.text
  }

  private var workingSetText: String {
    if workingSetRecorded { return "recorded, for the next start" }
    return workingSetOf.map { "that of \(printable($0))" } ?? "none"
  }

  private var faultText: String {
    guard let faultSecondsP50, let faultSecondsP99 else { return "none" }
    func microseconds(_ seconds: Double) -> String { "\(Int((seconds * 1e6).rounded())) µs" }
    return "\(faults), answered in \(microseconds(faultSecondsP50)) (median), "
      + "\(microseconds(faultSecondsP99)) (99 of 100)"
  }
}
