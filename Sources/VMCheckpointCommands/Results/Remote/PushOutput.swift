package import VMCheckpoint

/// What `push` prints.
package struct PushOutput: CommandOutput, Hashable {
  /// One snapshot.
  package struct Snapshot: Codable, Hashable, Sendable {
    var name: String
    var uuid: String
    var vm: String
    var remote: String
    var wasThere: Bool
    var workingSetSent: Bool
    var packs: Int
    var sentBytes: UInt64
    var sentPages: UInt64
    var reusedPages: UInt64
    var putRequests: Int
    var getRequests: Int
    var durationSeconds: Double

    enum CodingKeys: String, CodingKey {
      case name, uuid, vm, remote
      case wasThere = "was_there"
      case workingSetSent = "working_set_sent"
      case packs
      case sentBytes = "sent_bytes"
      case sentPages = "sent_pages"
      case reusedPages = "reused_pages"
      case putRequests = "put_requests"
      case getRequests = "get_requests"
      case durationSeconds = "duration_seconds"
    }
  }

  /// One that was not pushed.
  package struct Refusal: Codable, Hashable, Sendable {
    var name: String
    var uuid: String
    var message: String
    @Nullable var hint: String?
  }

  var snapshots: [Snapshot]
  var refused: [Refusal]
  var warnings: [String]

  package private(set) var failure: VMCheckpointError?

  enum CodingKeys: String, CodingKey {
    case snapshots, refused, warnings
  }

  /// What is printed of `report`.
  package init(_ report: PushReport, warnings: [String]) {
    self.warnings = warnings
    failure = report.error
    refused = report.refusals.map {
      Refusal(name: $0.name, uuid: $0.uuid, message: $0.error.message, hint: $0.error.hint)
    }
    snapshots = report.results.map { result in
      Snapshot(
        name: result.name,
        uuid: result.uuid,
        vm: result.vm,
        remote: result.remote,
        wasThere: result.wasThere,
        workingSetSent: result.gaveWorkingSet,
        packs: result.packCount,
        sentBytes: result.sentByteCount,
        sentPages: result.sentPageCount,
        reusedPages: result.reusedPageCount,
        putRequests: result.putRequestCount,
        getRequests: result.getRequestCount,
        durationSeconds: HumanReadable.milliseconds(result.durationSeconds)
      )
    }
  }

  package var text: String {
    // Where snapshots were refused, the error says that.
    guard !snapshots.isEmpty else { return refused.isEmpty ? "Nothing was pushed\n" : "" }
    return snapshots.map { snapshot in
      if snapshot.workingSetSent {
        return
          "Pushed the working set of \(printable(snapshot.name)) to \(printable(snapshot.remote)): its "
          + "pages are there already\n"
      }
      return SentSnapshotText.text(
        verb: "pushed",
        name: snapshot.name,
        target: snapshot.remote,
        wasThere: snapshot.wasThere,
        sent: (
          "Sent",
          "\(HumanReadable.bytes(snapshot.sentBytes)) in \(HumanReadable.count(snapshot.packs, "pack")), "
            + "\(HumanReadable.pages(snapshot.sentPages)) of pages"
        ),
        reusedPageCount: snapshot.reusedPages,
        durationSeconds: snapshot.durationSeconds
      )
    }.joined()
  }
}
