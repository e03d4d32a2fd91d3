package import VMCheckpoint

/// A snapshot as `list`, `show` and `tag` print it.
package struct SummaryOutput: Codable, Hashable, Sendable {
  var name: String
  var uuid: String
  var vm: String
  @Nullable var parent: String?
  var startedAt: String
  var completedAt: String
  var ramBytes: UInt64
  var storedPages: UInt64
  var newPages: UInt64
  var newStoredBytes: UInt64
  var overlayCount: Int
  var deviceStateCount: Int
  var tags: [String: String]
  var digest: String

  enum CodingKeys: String, CodingKey {
    case name, uuid, vm, parent
    case startedAt = "started_at"
    case completedAt = "completed_at"
    case ramBytes = "ram_bytes"
    case storedPages = "stored_pages"
    case newPages = "new_pages"
    case newStoredBytes = "new_stored_bytes"
    case overlayCount = "overlay_count"
    case deviceStateCount = "device_state_count"
    case tags, digest
  }

  /// What is printed of `summary`.
  package init(_ summary: SnapshotSummary) {
    name = summary.name
    uuid = summary.uuid
    vm = summary.vm
    parent = summary.parent
    startedAt = summary.startedAt
    completedAt = summary.completedAt
    ramBytes = summary.ramByteCount
    storedPages = summary.storedPageCount
    newPages = summary.newPageCount
    newStoredBytes = summary.newStoredByteCount
    overlayCount = summary.overlayCount
    deviceStateCount = summary.deviceStateCount
    tags = summary.tags
    digest = summary.digest
  }

  /// `key=value, key=value`, sorted by key.
  var tagText: String {
    tags.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ", ")
  }
}

/// What `tag` prints: the snapshot with its tags as they are now.
package struct TagOutput: CommandOutput, Hashable {
  var snapshot: SummaryOutput

  /// What is printed of `snapshot`.
  package init(snapshot: SummaryOutput) {
    self.snapshot = snapshot
  }

  package init(from decoder: any Decoder) throws {
    snapshot = try SummaryOutput(from: decoder)
  }

  package func encode(to encoder: any Encoder) throws {
    try snapshot.encode(to: encoder)
  }

  package var text: String {
    let tags = snapshot.tags.isEmpty ? "no tags" : printable(snapshot.tagText)
    return "\(printable(snapshot.name)): \(tags)\n"
  }
}
