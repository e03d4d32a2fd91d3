package import VMCheckpoint

/// What freeing did, or would do: the whole of `gc`'s result and a part of `delete`'s.
package struct CollectOutput: Codable, Hashable, Sendable {
  var dryRun: Bool
  var unfinishedSnapshots: UInt64
  var freedChunks: UInt64
  var freedPages: UInt64
  var freedStoredBytes: UInt64
  var repackedChunks: UInt64
  var repackedStoredBytes: UInt64
  var fileBytesBefore: UInt64
  var fileBytesAfter: UInt64

  enum CodingKeys: String, CodingKey {
    case dryRun = "dry_run"
    case unfinishedSnapshots = "unfinished_snapshots"
    case freedChunks = "freed_chunks"
    case freedPages = "freed_pages"
    case freedStoredBytes = "freed_stored_bytes"
    case repackedChunks = "repacked_chunks"
    case repackedStoredBytes = "repacked_stored_bytes"
    case fileBytesBefore = "file_bytes_before"
    case fileBytesAfter = "file_bytes_after"
  }

  /// What is printed of `result`.
  package init(_ result: CollectResult) {
    dryRun = result.dryRun
    unfinishedSnapshots = result.unfinishedSnapshotCount
    freedChunks = result.freedChunkCount
    freedPages = result.freedPageCount
    freedStoredBytes = result.freedStoredByteCount
    repackedChunks = result.repackedChunkCount
    repackedStoredBytes = result.repackedStoredByteCount
    fileBytesBefore = result.fileByteCountBefore
    fileBytesAfter = result.fileByteCountAfter
  }

  var text: String {
    let freed = "\(HumanReadable.bytes(freedStoredBytes)) in "
    let counts =
      "\(HumanReadable.count(freedChunks, "chunk")), \(HumanReadable.count(freedPages, "page"))"
    let before = HumanReadable.bytes(fileBytesBefore)
    var fields = FieldList()
    fields.add("Unfinished", HumanReadable.count(unfinishedSnapshots, "snapshot"))
    fields.add("Freed", freed + counts)
    if dryRun {
      fields.add("Repacked", HumanReadable.count(repackedChunks, "chunk"))
      fields.add("File", before)
      return "Would free\n" + fields.text
    }
    let chunks = HumanReadable.count(repackedChunks, "chunk")
    fields.add("Repacked", "\(chunks), \(HumanReadable.bytes(repackedStoredBytes)) freed")
    fields.add("File", "\(HumanReadable.bytes(fileBytesAfter)), was \(before)")
    return "Freed\n" + fields.text
  }
}

/// What `gc` prints.
package struct GcOutput: CommandOutput, Hashable {
  var collected: CollectOutput
  var warnings: [String]

  enum CodingKeys: CodingKey {
    case warnings
  }

  /// What is printed of `collected`.
  package init(collected: CollectOutput, warnings: [String]) {
    self.collected = collected
    self.warnings = warnings
  }

  package init(from decoder: any Decoder) throws {
    collected = try CollectOutput(from: decoder)
    warnings = try decoder.container(keyedBy: CodingKeys.self)
      .decode([String].self, forKey: .warnings)
  }

  package func encode(to encoder: any Encoder) throws {
    try collected.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(warnings, forKey: .warnings)
  }

  package var text: String { collected.text }
}

/// What `delete` prints.
package struct DeleteOutput: CommandOutput, Hashable {
  /// The names of the deleted snapshots.
  var deleted: [String]

  /// `null`: freeing was left to `gc`, because others used the store.
  @Nullable var collected: CollectOutput?

  var warnings: [String]

  /// What is printed of `result`.
  package init(_ result: DeleteResult, warnings: [String]) {
    deleted = result.deleted
    collected = result.collected.map(CollectOutput.init)
    self.warnings = warnings
  }

  package var text: String {
    deleted.map { "Deleted \(printable($0))\n" }.joined()
      + (collected?.text ?? "The store is in use: 'vmckpt gc' will free the space later\n")
  }
}
