package import VMCheckpoint

/// What `stats` prints, with the names of the view `storage_stats` and more.
package struct StatsOutput: CommandOutput, Hashable {
  var path: String
  var formatVersion: Int
  var features: [String]
  var uuid: String
  var createdAt: String
  var snapshots: UInt64
  var unfinishedSnapshots: UInt64
  var vms: UInt64
  var ramBytes: UInt64
  var nonzeroBytes: UInt64
  var distinctPageBytes: UInt64
  var storedBytes: UInt64
  var chunks: UInt64
  var deviceStateBytes: UInt64
  var pageIndexEntries: UInt64
  var pageIndexRuns: UInt64
  var fileBytes: UInt64
  var freeBytes: UInt64
  var reserveBytes: UInt64

  enum CodingKeys: String, CodingKey {
    case path
    case formatVersion = "format_version"
    case features
    case uuid
    case createdAt = "created_at"
    case snapshots
    case unfinishedSnapshots = "unfinished_snapshots"
    case vms
    case ramBytes = "ram_bytes"
    case nonzeroBytes = "nonzero_bytes"
    case distinctPageBytes = "distinct_page_bytes"
    case storedBytes = "stored_bytes"
    case chunks
    case deviceStateBytes = "device_state_bytes"
    case pageIndexEntries = "page_index_entries"
    case pageIndexRuns = "page_index_runs"
    case fileBytes = "file_bytes"
    case freeBytes = "free_bytes"
    case reserveBytes = "reserve_bytes"
  }

  /// What is printed of `statistics`.
  package init(_ statistics: StoreStatistics) {
    path = statistics.path
    formatVersion = statistics.formatVersion
    features = statistics.features
    uuid = statistics.uuid
    createdAt = statistics.createdAt
    snapshots = statistics.snapshotCount
    unfinishedSnapshots = statistics.unfinishedSnapshotCount
    vms = statistics.vmCount
    ramBytes = statistics.ramByteCount
    nonzeroBytes = statistics.nonzeroByteCount
    distinctPageBytes = statistics.distinctPageByteCount
    storedBytes = statistics.storedByteCount
    chunks = statistics.chunkCount
    deviceStateBytes = statistics.deviceStateByteCount
    pageIndexEntries = statistics.pageIndexEntryCount
    pageIndexRuns = statistics.pageIndexRunCount
    fileBytes = statistics.fileByteCount
    freeBytes = statistics.freeByteCount
    reserveBytes = statistics.reserveByteCount
  }

  package var text: String {
    func bytes(_ count: UInt64, than whole: UInt64, _ means: String) -> String {
      let ratio = HumanReadable.ratio(whole, to: count).map { " (\($0) smaller \(means))" }
      return HumanReadable.bytes(count) + (ratio ?? "")
    }
    let unfinished = unfinishedSnapshots > 0 ? ", \(unfinishedSnapshots) unfinished" : ""
    var fields = FieldList()
    let format = ["\(formatVersion)"] + features.map { printable($0) }
    fields.add("Format", format.joined(separator: ", "))
    fields.add("UUID", uuid)
    fields.add("Created", createdAt)
    fields.add("Snapshots", "\(snapshots) of \(HumanReadable.count(vms, "VM"))\(unfinished)")
    fields.add("RAM", HumanReadable.bytes(ramBytes))
    fields.add("Not zero", bytes(nonzeroBytes, than: ramBytes, "without zero pages"))
    fields.add(
      "Distinct",
      bytes(distinctPageBytes, than: nonzeroBytes, "by sharing equal pages")
    )
    fields.add("Stored", bytes(storedBytes, than: distinctPageBytes, "by compression"))
    fields.add("Chunks", "\(chunks)")
    fields.add("Device states", HumanReadable.bytes(deviceStateBytes))
    fields.add(
      "Page index",
      "\(HumanReadable.count(pageIndexEntries, "entry", "entries")) in "
        + HumanReadable.count(pageIndexRuns, "run")
    )
    fields.add("File", bytes(fileBytes, than: ramBytes, "than the RAM"))
    fields.add("Free in file", HumanReadable.bytes(freeBytes))
    fields.add("Reserve", HumanReadable.bytes(reserveBytes))
    return "\(printable(path))\n" + fields.text
  }
}
