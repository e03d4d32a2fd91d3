package import VMCheckpoint

/// What `pull` and `remote fetch` print.
package struct PullOutput: CommandOutput, Hashable {
  /// One snapshot.
  package struct Snapshot: Codable, Hashable, Sendable {
    var name: String
    var uuid: String
    var vm: String
    var remote: String
    var wasThere: Bool
    var workingSetCame: Bool
    var chunks: UInt64
    var pages: UInt64
    var receivedBytes: UInt64
    var missingChunks: UInt64
    var getRequests: Int
    var durationSeconds: Double

    enum CodingKeys: String, CodingKey {
      case name, uuid, vm, remote
      case wasThere = "was_there"
      case workingSetCame = "working_set_came"
      case chunks, pages
      case receivedBytes = "received_bytes"
      case missingChunks = "missing_chunks"
      case getRequests = "get_requests"
      case durationSeconds = "duration_seconds"
    }
  }

  var snapshots: [Snapshot]
  var warnings: [String]

  /// What is printed of `results`.
  package init(_ results: [PullResult], warnings: [String]) {
    self.warnings = warnings
    snapshots = results.map { result in
      Snapshot(
        name: result.name,
        uuid: result.uuid,
        vm: result.vm,
        remote: result.remote,
        wasThere: result.wasThere,
        workingSetCame: result.gotWorkingSet,
        chunks: result.chunkCount,
        pages: result.pageCount,
        receivedBytes: result.receivedByteCount,
        missingChunks: result.missingChunkCount,
        getRequests: result.getRequestCount,
        durationSeconds: HumanReadable.milliseconds(result.durationSeconds)
      )
    }
  }

  package var notice: String? { snapshots.isEmpty ? "the remote has no snapshots" : nil }

  package var text: String {
    snapshots.map { snapshot in
      let title = "\(printable(snapshot.name)) from \(printable(snapshot.remote))"
      guard !snapshot.wasThere else {
        return snapshot.workingSetCame
          ? "Brought the working set of \(title): its pages are here already\n"
          : "Nothing to bring of \(title): it is here already\n"
      }
      var fields = FieldList()
      fields.add("Received", HumanReadable.bytes(snapshot.receivedBytes))
      fields.add("Pages", HumanReadable.pages(snapshot.pages))
      if snapshot.missingChunks > 0 {
        fields.add("Not here", "\(snapshot.missingChunks) chunks; bring them with: vmckpt pull")
      }
      let verb = snapshot.missingChunks > 0 ? "Fetched" : "Brought"
      return "\(verb) \(title) in \(HumanReadable.seconds(snapshot.durationSeconds))\n"
        + fields.text
    }.joined()
  }
}
