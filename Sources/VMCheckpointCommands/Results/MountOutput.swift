package import VMCheckpoint

/// What `mount` prints: that a store is mounted, or in the foreground what was done until the end.
package struct MountOutput: CommandOutput, Hashable {
  var directory: String
  var mounted: Bool
  var snapshots: Int
  var leases: Bool
  @Nullable var reads: UInt64?
  @Nullable var readBytes: UInt64?
  @Nullable var failedReads: UInt64?
  @Nullable var decodedChunks: UInt64?
  @Nullable var remoteChunks: UInt64?
  @Nullable var remoteBytes: UInt64?
  @Nullable var remoteWaits: UInt64?
  @Nullable var remoteWaitSeconds: Double?
  @Nullable var readSecondsP50: Double?
  @Nullable var readSecondsP99: Double?
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case directory, mounted, snapshots, leases, reads
    case readBytes = "read_bytes"
    case failedReads = "failed_reads"
    case decodedChunks = "decoded_chunks"
    case remoteChunks = "remote_chunks"
    case remoteBytes = "remote_bytes"
    case remoteWaits = "remote_waits"
    case remoteWaitSeconds = "remote_wait_seconds"
    case readSecondsP50 = "read_seconds_p50"
    case readSecondsP99 = "read_seconds_p99"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ result: MountResult, warnings: [String]) {
    directory = result.directory
    mounted = result.isMounted
    snapshots = result.snapshotCount
    leases = result.hasLeases
    reads = result.counts?.readCount
    readBytes = result.counts?.readByteCount
    failedReads = result.counts?.failedReadCount
    decodedChunks = result.counts?.decodedChunkCount
    remoteChunks = result.counts?.remoteChunkCount
    remoteBytes = result.counts?.remoteByteCount
    remoteWaits = result.counts?.remoteWaitCount
    remoteWaitSeconds = (result.counts?.remoteWaitSeconds).map(HumanReadable.milliseconds)
    readSecondsP50 = result.counts?.readSecondsP50
    readSecondsP99 = result.counts?.readSecondsP99
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    let count = HumanReadable.count(snapshots, "snapshot")
    guard !mounted else { return "Mounted \(count) on \(printable(directory))\n" }
    var fields = FieldList()
    fields.add("Reads", readText)
    if let failedReads, failedReads > 0 {
      fields.add("Failed", HumanReadable.count(failedReads, "read"))
    }
    fields.add("Read", HumanReadable.bytes(readBytes ?? 0))
    fields.add("Decoded", HumanReadable.count(decodedChunks ?? 0, "chunk"))
    if remoteChunks ?? 0 > 0 || remoteWaits ?? 0 > 0 {
      fields.add(
        "From remotes",
        RemoteReads.text(
          chunkCount: remoteChunks ?? 0,
          byteCount: remoteBytes ?? 0,
          waitCount: remoteWaits ?? 0,
          waitSeconds: remoteWaitSeconds ?? 0
        )
      )
    }
    return
      "Served \(count) at \(printable(directory)) for \(HumanReadable.seconds(durationSeconds))\n"
      + fields.text
  }

  private var readText: String {
    guard let reads, let readSecondsP50, let readSecondsP99 else { return "none" }
    func microseconds(_ seconds: Double) -> String { "\(Int((seconds * 1e6).rounded())) µs" }
    return "\(reads), answered in \(microseconds(readSecondsP50)) (median), "
      + "\(microseconds(readSecondsP99)) (99 of 100)"
  }
}

/// What `unmount` prints.
package struct UnmountOutput: CommandOutput, Hashable {
  var directory: String
  var lazy: Bool

  /// What is printed of a mount that was taken away.
  package init(directory: String, lazy: Bool) {
    self.directory = directory
    self.lazy = lazy
  }

  package var text: String { "Unmounted \(printable(directory))\n" }
}
