/// Reads manifests, and passes over those that do not count.
enum ManifestHeads {
  /// The head of a manifest; `nil` when it is gone, or was put after its deadline.
  ///
  /// - Throws: As ``RemoteTransport``; `corrupt`.
  static func read(
    _ facts: RemoteObjectFacts,
    _ link: RemoteLink
  ) throws(VMCheckpointError) -> Manifest.Head? {
    guard let (head, counts) = try any(facts, link), counts else { return nil }
    return head
  }

  /// The head of a manifest, and whether the manifest counts: whether it was put before its deadline.
  ///
  /// - Returns: `nil` when it is gone.
  /// - Throws: As ``RemoteTransport``; `corrupt`.
  static func any(
    _ facts: RemoteObjectFacts,
    _ link: RemoteLink
  ) throws(VMCheckpointError) -> (head: Manifest.Head, counts: Bool)? {
    let title = "\(link.transport.title)/\(facts.key)"
    let guess = Manifest.headGuessByteCount
    guard var read = try link.part(facts.key, .bytes(offset: 0, count: guess), guess) else {
      return nil
    }
    let byteCount = try Manifest.headByteCount(read.bytes[...], title: title)
    if byteCount > read.bytes.count {
      guard
        let longer = try link.part(facts.key, .bytes(offset: 0, count: byteCount), byteCount)
      else { return nil }
      read = longer
    }
    guard byteCount <= read.bytes.count else {
      throw .corrupt("\(title) is damaged: it is cut off")
    }
    let head = try Manifest.head(read.bytes[..<byteCount], title: title)
    return (head, read.facts.modifiedSeconds <= head.deadlineSeconds)
  }

  /// A whole manifest; `nil` when it is gone, or was put after its deadline.
  ///
  /// - Throws: As ``RemoteTransport``; `corrupt`.
  static func whole(_ key: RemoteKey, _ link: RemoteLink) throws(VMCheckpointError) -> Manifest? {
    guard let (bytes, facts) = try link.whole(key, atMost: Manifest.maximumByteCount) else {
      return nil
    }
    let manifest = try Manifest(bytes, title: "\(link.transport.title)/\(key)")
    return facts.modifiedSeconds <= manifest.head.deadlineSeconds ? manifest : nil
  }
}
