import VMCheckpoint
package import VMCheckpointFormats

/// What `serve --qemu` prints at its end.
package struct PostcopyOutput: CommandOutput, Hashable {
  var name: String
  var uuid: String
  @Nullable var process: Int32?
  @Nullable var lease: Int64?
  var recovered: Bool
  @Nullable var secondsToRun: Double?
  @Nullable var secondsToSent: Double?
  var requests: UInt64
  var requestPages: UInt64
  var zeroPages: UInt64
  var workingSetPages: UInt64
  var backgroundPages: UInt64
  var decodedChunks: UInt64
  var remoteChunks: UInt64
  var remoteBytes: UInt64
  var remoteWaits: UInt64
  var remoteWaitSeconds: Double
  @Nullable var requestSecondsP50: Double?
  @Nullable var requestSecondsP99: Double?
  @Nullable var workingSetOf: String?
  var workingSetRecorded: Bool
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case name, uuid, process, lease, recovered
    case secondsToRun = "seconds_to_run"
    case secondsToSent = "seconds_to_sent"
    case requests
    case requestPages = "request_pages"
    case zeroPages = "zero_pages"
    case workingSetPages = "working_set_pages"
    case backgroundPages = "background_pages"
    case decodedChunks = "decoded_chunks"
    case remoteChunks = "remote_chunks"
    case remoteBytes = "remote_bytes"
    case remoteWaits = "remote_waits"
    case remoteWaitSeconds = "remote_wait_seconds"
    case requestSecondsP50 = "request_seconds_p50"
    case requestSecondsP99 = "request_seconds_p99"
    case workingSetOf = "working_set_of"
    case workingSetRecorded = "working_set_recorded"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ result: QEMUPostcopyResult, warnings: [String]) {
    name = result.name
    uuid = result.uuid
    process = result.process
    lease = result.leaseID
    recovered = result.isRecovery
    secondsToRun = result.secondsToRun
    secondsToSent = result.secondsToSent
    requests = result.requestCount
    requestPages = result.requestPageCount
    zeroPages = result.zeroPageCount
    workingSetPages = result.workingSetPageCount
    backgroundPages = result.backgroundPageCount
    decodedChunks = result.decodedChunkCount
    remoteChunks = result.remoteChunkCount
    remoteBytes = result.remoteByteCount
    remoteWaits = result.remoteWaitCount
    remoteWaitSeconds = HumanReadable.milliseconds(result.remoteWaitSeconds)
    requestSecondsP50 = result.requestSecondsP50
    requestSecondsP99 = result.requestSecondsP99
    workingSetOf = result.playedWorkingSet?.snapshot
    workingSetRecorded = result.hasRecordedWorkingSet
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    var fields = FieldList()
    if let secondsToRun {
      fields.add("Runs after", "\(HumanReadable.wholeMilliseconds(secondsToRun)) ms")
    }
    fields.add("Requests", requestText)
    fields.add(
      "Sent",
      "\(requestPages) for requests, \(workingSetPages) of the working set, \(backgroundPages) in the "
        + "background"
    )
    fields.add("Zeros", HumanReadable.count(zeroPages, "page"))
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
    if workingSetRecorded { fields.add("Working set", "recorded, for the next start") }
    let ran = "\(printable(name)) for \(HumanReadable.seconds(durationSeconds))"
    return (recovered ? "Went on with \(ran)\n" : "Served \(ran)\n") + fields.text
  }

  private var requestText: String {
    guard let requestSecondsP50, let requestSecondsP99 else { return "\(requests)" }
    func microseconds(_ seconds: Double) -> String { "\(Int((seconds * 1e6).rounded())) µs" }
    return "\(requests), answered in \(microseconds(requestSecondsP50)) (median), "
      + "\(microseconds(requestSecondsP99)) (99 of 100)"
  }
}

/// What `serve` prints, by how it has served.
package enum ServeReport: CommandOutput {
  case userfaultfd(ServeOutput)
  case postcopy(PostcopyOutput)

  package init(from decoder: any Decoder) throws {
    do {
      self = .postcopy(try PostcopyOutput(from: decoder))
    } catch {
      self = .userfaultfd(try ServeOutput(from: decoder))
    }
  }

  package func encode(to encoder: any Encoder) throws {
    switch self {
    case .userfaultfd(let output): try output.encode(to: encoder)
    case .postcopy(let output): try output.encode(to: encoder)
    }
  }

  package var text: String {
    switch self {
    case .userfaultfd(let output): output.text
    case .postcopy(let output): output.text
    }
  }
}
