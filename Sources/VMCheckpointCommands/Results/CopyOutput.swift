package import VMCheckpoint

/// What `copy` prints.
package struct CopyOutput: CommandOutput, Hashable {
  /// One snapshot.
  package struct Snapshot: Codable, Hashable, Sendable {
    var name: String
    var uuid: String
    var vm: String
    var wasThere: Bool
    var wholeChunks: UInt64
    var copiedPages: UInt64
    var storedBytes: UInt64
    var reusedPages: UInt64
    var durationSeconds: Double

    enum CodingKeys: String, CodingKey {
      case name, uuid, vm
      case wasThere = "was_there"
      case wholeChunks = "whole_chunks"
      case copiedPages = "copied_pages"
      case storedBytes = "stored_bytes"
      case reusedPages = "reused_pages"
      case durationSeconds = "duration_seconds"
    }
  }

  /// The other store's path, as it was given.
  var target: String
  var snapshots: [Snapshot]
  var warnings: [String]

  /// What is printed of `results`.
  package init(_ results: [CopyResult], to target: String, warnings: [String]) {
    self.target = target
    self.warnings = warnings
    snapshots = results.map { result in
      Snapshot(
        name: result.name,
        uuid: result.uuid,
        vm: result.vm,
        wasThere: result.wasThere,
        wholeChunks: result.wholeChunkCount,
        copiedPages: result.copiedPageCount,
        storedBytes: result.storedByteCount,
        reusedPages: result.reusedPageCount,
        durationSeconds: HumanReadable.milliseconds(result.durationSeconds)
      )
    }
  }

  package var text: String {
    snapshots.map { snapshot in
      SentSnapshotText.text(
        verb: "copied",
        name: snapshot.name,
        target: target,
        wasThere: snapshot.wasThere,
        sent: (
          "New there",
          "\(HumanReadable.pages(snapshot.copiedPages)) in \(snapshot.copiedPages) pages, "
            + "stored in \(HumanReadable.bytes(snapshot.storedBytes))"
        ),
        reusedPageCount: snapshot.reusedPages,
        durationSeconds: snapshot.durationSeconds
      )
    }.joined()
  }
}
