import VMCheckpoint

/// `KEY=VALUE`.
struct TagArgument: Hashable, Sendable {
  var key: String
  var value: String

  /// Splits `text` at its first `=`.
  static func parse(_ text: String) throws(ArgumentError) -> TagArgument {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty else { throw ArgumentError("expected KEY=VALUE") }
    let tag = TagArgument(key: String(parts[0]), value: String(parts[1]))
    do {
      try SnapshotTag.check(key: tag.key, value: tag.value)
    } catch {
      throw ArgumentError(error.description)
    }
    return tag
  }

  /// The tags by key.
  ///
  /// - Throws: ``VMCheckpointError`` when a key occurs twice: it cannot have two values.
  static func dictionary(_ tags: [TagArgument]) throws(VMCheckpointError) -> [String: String] {
    var result: [String: String] = [:]
    for tag in tags where result.updateValue(tag.value, forKey: tag.key) != nil {
      throw VMCheckpointError(
        .invalidArgument,
        "tag \(quotedName(tag.key)) is given twice",
        hint: "a tag has one value"
      )
    }
    return result
  }
}
