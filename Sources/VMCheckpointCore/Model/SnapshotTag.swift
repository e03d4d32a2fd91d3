/// The rules for tags.
public enum SnapshotTag {
  /// The longest value in UTF-8 bytes.
  public static let maximumValueByteCount = 4096

  /// Checks a tag.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  public static func check(key: String, value: String) throws(VMCheckpointError) {
    try SnapshotName.check(key, what: "tag key")
    guard value.utf8.count <= maximumValueByteCount,
      value.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f })
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "invalid value for tag \(quotedName(key))",
        hint:
          "a value has up to \(maximumValueByteCount) bytes, none of them control characters"
      )
    }
  }
}
