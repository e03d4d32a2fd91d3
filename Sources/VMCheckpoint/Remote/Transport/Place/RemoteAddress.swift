/// Where a remote is: `s3://BUCKET/PREFIX` or `file:///PATH`, checked.
package enum RemoteAddress: Sendable, Hashable, CustomStringConvertible {
  /// A prefix of a bucket; the prefix is `nil` for the whole bucket.
  case objectStore(bucket: String, prefix: RemoteKey?)
  /// An absolute path without `.`, `..` and empty parts.
  case folder(path: String)

  /// So that a key with its prefix is one that every server takes: 1024 bytes.
  package static let maximumPrefixByteCount = 200
  /// Of a folder's path.
  package static let maximumPathByteCount = 3000

  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`, which says what is wrong.
  package init(_ text: String) throws(VMCheckpointError) {
    if text.hasPrefix("s3://") {
      self = try Self.objectStore(String(text.dropFirst(5)), of: text)
    } else if text.hasPrefix("file://") {
      self = try Self.folder(String(text.dropFirst(7)), of: text)
    } else {
      throw Self.invalid(text, "it begins with neither s3:// nor file://")
    }
  }

  /// The address as it is written: the same for the same place.
  package var description: String {
    switch self {
    case .objectStore(let bucket, let prefix?): "s3://\(bucket)/\(prefix.text)"
    case .objectStore(let bucket, nil): "s3://\(bucket)"
    case .folder(let path): "file://\(path)"
    }
  }

  private static func objectStore(
    _ rest: String,
    of text: String
  ) throws(VMCheckpointError) -> Self {
    let parts = rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    let bucket = String(parts[0])
    if let problem = problem(ofBucket: bucket) { throw invalid(text, problem) }
    var prefix = parts.count > 1 ? String(parts[1]) : ""
    if prefix.isEmpty { return .objectStore(bucket: bucket, prefix: nil) }
    if prefix.hasSuffix("/") { prefix.removeLast() }
    guard let key = RemoteKey(prefix) else {
      throw invalid(
        text,
        "the prefix may have letters, digits and ._- in parts that / separates, none empty, . or .."
      )
    }
    guard prefix.utf8.count <= maximumPrefixByteCount else {
      throw invalid(text, "the prefix has more than \(maximumPrefixByteCount) bytes")
    }
    return .objectStore(bucket: bucket, prefix: key)
  }

  /// The rules of general purpose buckets of AWS, which other servers share.
  private static func problem(ofBucket bucket: String) -> String? {
    let bytes = Array(bucket.utf8)
    guard (3...63).contains(bytes.count) else { return "a bucket's name has 3 to 63 characters" }
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
    let dot = UInt8(ascii: ".")
    guard bytes.allSatisfy({ isAlphanumeric($0) || $0 == dot || $0 == UInt8(ascii: "-") }),
      isAlphanumeric(bytes[0]), isAlphanumeric(bytes[bytes.count - 1])
    else {
      return
        "a bucket's name has small letters, digits, dots and hyphens, and no dot or hyphen at its ends"
    }
    if zip(bytes, bytes.dropFirst()).contains(where: { $0 == dot && $1 == dot }) {
      return "a bucket's name has no two dots in a row"
    }
    if bucket.split(separator: ".").count == 4,
      bytes.allSatisfy({ $0 == dot || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    {
      return "a bucket's name is not an IP address"
    }
    return nil
  }

  private static func folder(_ rest: String, of text: String) throws(VMCheckpointError) -> Self {
    guard rest.hasPrefix("/") else {
      throw invalid(text, "the path is not absolute: file:///PATH has three slashes")
    }
    guard rest.utf8.count <= maximumPathByteCount,
      rest.utf8.allSatisfy({ $0 >= 32 && $0 != 127 })
    else { throw invalid(text, "the path is too long, or has control characters") }
    let parts = rest.split(separator: "/")
    guard !parts.isEmpty else { throw invalid(text, "the folder / cannot be a remote") }
    guard !parts.contains("."), !parts.contains("..") else {
      throw invalid(text, "the path has a part that is . or ..")
    }
    return .folder(path: "/" + parts.joined(separator: "/"))
  }

  private static func invalid(_ text: String, _ reason: String) -> VMCheckpointError {
    VMCheckpointError(
      .invalidArgument,
      "\(quotedName(text, maximumScalarCount: 200)) is not the address of a remote: \(reason)",
      hint: "give one such as s3://BUCKET/PREFIX or file:///PATH"
    )
  }
}
