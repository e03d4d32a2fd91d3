package import VMCheckpoint

/// What `optimize` prints.
package struct OptimizeOutput: CommandOutput, Hashable {
  var rewrittenChunks: UInt64
  var newChunks: UInt64
  var storedPages: UInt64
  var droppedPages: UInt64
  var unreadableChunks: UInt64
  var storedBytesBefore: UInt64
  var storedBytesAfter: UInt64
  var extentsBefore: UInt64
  var extentsAfter: UInt64
  var fileBytesBefore: UInt64
  var fileBytesAfter: UInt64
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case rewrittenChunks = "rewritten_chunks"
    case newChunks = "new_chunks"
    case storedPages = "stored_pages"
    case droppedPages = "dropped_pages"
    case unreadableChunks = "unreadable_chunks"
    case storedBytesBefore = "stored_bytes_before"
    case storedBytesAfter = "stored_bytes_after"
    case extentsBefore = "extents_before"
    case extentsAfter = "extents_after"
    case fileBytesBefore = "file_bytes_before"
    case fileBytesAfter = "file_bytes_after"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ result: OptimizeResult, warnings: [String]) {
    rewrittenChunks = result.rewrittenChunkCount
    newChunks = result.newChunkCount
    storedPages = result.storedPageCount
    droppedPages = result.droppedPageCount
    unreadableChunks = result.unreadableChunkCount
    storedBytesBefore = result.storedByteCountBefore
    storedBytesAfter = result.storedByteCountAfter
    extentsBefore = result.extentCountBefore
    extentsAfter = result.extentCountAfter
    fileBytesBefore = result.fileByteCountBefore
    fileBytesAfter = result.fileByteCountAfter
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    func change(_ before: UInt64, _ after: UInt64) -> String {
      "\(HumanReadable.bytes(after)), was \(HumanReadable.bytes(before))"
    }
    var fields = FieldList()
    fields.add("Rewritten", HumanReadable.count(rewrittenChunks, "chunk"))
    fields.add("Dropped", HumanReadable.count(droppedPages, "page"))
    if unreadableChunks > 0 {
      let chunks = HumanReadable.count(unreadableChunks, "chunk")
      fields.add("Left alone", "\(chunks); see why with: vmckpt verify")
    }
    fields.add("Stored", change(storedBytesBefore, storedBytesAfter))
    fields.add("Extents", "\(extentsAfter), was \(extentsBefore)")
    fields.add("File", change(fileBytesBefore, fileBytesAfter))
    return "Optimized in \(HumanReadable.seconds(durationSeconds))\n" + fields.text
  }
}
