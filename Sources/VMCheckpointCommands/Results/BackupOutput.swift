package import VMCheckpoint

/// What `backup` prints.
package struct BackupOutput: CommandOutput, Hashable {
  /// The copy's path, as it was given.
  var copy: String
  var fileBytes: UInt64
  var snapshots: UInt64
  var verified: Bool
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case copy
    case fileBytes = "file_bytes"
    case snapshots, verified
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ copy: String, _ result: BackupResult, warnings: [String]) {
    self.copy = copy
    fileBytes = result.fileByteCount
    snapshots = result.snapshotCount
    verified = result.isVerified
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    var fields = FieldList()
    fields.add("Snapshots", "\(snapshots)")
    fields.add("File", HumanReadable.bytes(fileBytes))
    fields.add("Verified", verified ? "yes" : "no")
    return "Copied the store to \(printable(copy)) in "
      + "\(HumanReadable.seconds(durationSeconds))\n" + fields.text
  }
}
