/// A remote that was opened: its objects, checked as they come.
struct RemoteLink: Sendable {
  /// What is read of an object before its size is known.
  private static let guessByteCount = 64 << 10
  /// What is read of a pack's end: its footer, if it is of the usual size.
  private static let footerGuessByteCount = 160 << 10
  /// Of lists and of index runs.
  private static let maximumObjectByteCount: UInt64 = 1 << 30

  let transport: any RemoteTransport
  let description: RemoteDescription

  /// Reads `remote.json`.
  ///
  /// - Parameter uuid: What the remote has to call itself; `nil` for anything.
  /// - Throws: ``VMCheckpointError``: `notFound` when there is no remote; `corrupt` when it is another one; and as
  ///   ``RemoteTransport``.
  init(_ transport: any RemoteTransport, uuid: String?) throws(VMCheckpointError) {
    self.transport = transport
    guard
      let (bytes, _) = try Self.whole(
        RemoteNames.description,
        transport,
        atMost: UInt64(RemoteDescription.maximumByteCount)
      )
    else {
      throw VMCheckpointError(
        .notFound,
        "there is no remote at \(transport.title)",
        hint: "make one with: vmckpt remote init"
      )
    }
    description = try RemoteDescription(bytes[...], title: transport.title)
    guard uuid == nil || uuid == description.uuid else {
      throw VMCheckpointError(
        .corrupt,
        "\(transport.title) is another remote than this store knows by that address",
        hint: "forget the old one with: vmckpt remote forget, and add it anew"
      )
    }
  }

  /// The bytes of a whole object; `nil` when there is none.
  ///
  /// - Throws: As ``RemoteTransport``; `corrupt` when it is longer than `limit`.
  func whole(
    _ key: RemoteKey,
    atMost limit: UInt64 = RemoteLink.maximumObjectByteCount
  ) throws(VMCheckpointError) -> (bytes: [UInt8], facts: RemoteObjectFacts)? {
    try Self.whole(key, transport, atMost: limit)
  }

  private static func whole(
    _ key: RemoteKey,
    _ transport: any RemoteTransport,
    atMost limit: UInt64
  ) throws(VMCheckpointError) -> (bytes: [UInt8], facts: RemoteObjectFacts)? {
    let title = "\(transport.title)/\(key)"
    guard
      let (head, facts) = try read(
        key,
        .bytes(offset: 0, count: guessByteCount),
        guessByteCount,
        transport
      )
    else { return nil }
    guard facts.byteCount <= limit else { throw .corrupt("\(title) is too long") }
    let rest = Int(facts.byteCount) - head.count
    guard rest > 0 else { return (head, facts) }
    guard
      let (tail, _) = try read(
        key,
        .bytes(offset: UInt64(head.count), count: rest),
        rest,
        transport
      ), tail.count == rest
    else { throw .corrupt("\(title) changed while it was read") }
    return (head + tail, facts)
  }

  /// The part of an object that a range names; `nil` when there is no object.
  func part(
    _ key: RemoteKey,
    _ range: RemoteRange,
    _ byteCount: Int
  ) throws(VMCheckpointError) -> (bytes: [UInt8], facts: RemoteObjectFacts)? {
    try Self.read(key, range, byteCount, transport)
  }

  private static func read(
    _ key: RemoteKey,
    _ range: RemoteRange,
    _ byteCount: Int,
    _ transport: any RemoteTransport
  ) throws(VMCheckpointError) -> (bytes: [UInt8], facts: RemoteObjectFacts)? {
    try LargeMemory.require(byteCount: byteCount)
    var read: RemoteRead?
    var failure: VMCheckpointError?
    // Array's own initializer only rethrows untyped errors.
    let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      do throws(VMCheckpointError) {
        read = try transport.get(key, range, into: UnsafeMutableRawBufferPointer(buffer))
        count = read?.readByteCount ?? 0
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return read.map { (bytes, $0.facts) }
  }

  /// The footer of a pack.
  ///
  /// - Throws: As ``RemoteTransport``; `notFound` when there is no such pack; `corrupt`.
  func footer(
    of pack: RemoteID
  ) throws(VMCheckpointError) -> (footer: PackFooter, bytes: ArraySlice<UInt8>, byteCount: UInt64) {
    let (key, title) = (RemoteNames.pack(pack), "pack \(pack)")
    let gone = VMCheckpointError(.notFound, "\(transport.title) has no pack \(pack)")
    guard
      let read = try part(
        key,
        .suffix(count: Self.footerGuessByteCount),
        Self.footerGuessByteCount
      )
    else { throw gone }
    var bytes = read.bytes
    let facts = read.facts
    guard bytes.count >= PackFooter.trailerByteCount else { throw .corrupt("\(title) is damaged") }
    let (_, dataByteCount) = try PackFooter.entryTableByteCount(
      bytes.suffix(PackFooter.trailerByteCount),
      title: title
    )
    guard dataByteCount < facts.byteCount,
      facts.byteCount - dataByteCount <= UInt64(PackFooter.maximumByteCount)
    else { throw .corrupt("\(title) is damaged") }
    let needed = Int(facts.byteCount - dataByteCount)
    if bytes.count < needed {
      guard let longer = try part(key, .suffix(count: needed), needed), longer.bytes.count == needed
      else { throw gone }
      bytes = longer.bytes
    }
    let footer = bytes.suffix(needed)
    return (
      try PackFooter(footer, of: pack, packByteCount: facts.byteCount), footer, facts.byteCount
    )
  }

  /// Puts an object.
  @discardableResult
  func put(_ key: RemoteKey, _ bytes: [UInt8]) throws(VMCheckpointError) -> RemoteObjectFacts {
    // Array's own closures only rethrow untyped errors.
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(VMCheckpointError) in try transport.put(key, buffer) }
    }
    return try result.get()
  }

  /// All objects whose keys begin with `prefix`.
  func list(_ prefix: String) throws(VMCheckpointError) -> [RemoteObjectFacts] {
    var all: [RemoteObjectFacts] = []
    try transport.list(prefix, after: nil) { (batch) throws(VMCheckpointError) in
      all += batch
      return true
    }
    return all
  }
}
