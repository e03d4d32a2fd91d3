import Synchronization

/// Packs that are filled on one thread, and proved, hashed and sent on others.
final class PackUpload: Sendable {
  /// A pack that the server has.
  struct Sent: Sendable {
    var id: RemoteID
    var byteCount: UInt64
    var footer: [UInt8]
    var places: [(chunkID: Int64, entry: Int, offset: UInt64)]
  }

  /// A pack under way, with the chunks that it has as they are in the store.
  final class Item: @unchecked Sendable {
    /// A chunk whose pages are not proved yet.
    fileprivate struct Chunk {
      var chunkID: Int64
      var entry: Int
      var pageCount: Int
      var encoding: ChunkEncoding
      var storedByteCount: Int
      /// Which of the pack's digests is its first.
      var firstDigest: Int
      /// Where its fingerprints begin; `nil` when it has none.
      var fingerprints: Int?
    }

    let builder = PackBuilder()
    fileprivate var chunks: [Chunk] = []
    fileprivate var fingerprints: [UInt8] = []

    func begin() {
      builder.begin()
      chunks.removeAll(keepingCapacity: true)
      fingerprints.removeAll(keepingCapacity: true)
    }

    /// Adds a chunk as it is in the store.
    ///
    /// - Parameter source: Its stored form; its pages are not made yet.
    /// - Returns: Its entry's number.
    func add(_ source: ChunkBuffer) -> Int {
      let firstDigest = builder.digestCount
      let entry = builder.add(source)
      chunks.append(
        Chunk(
          chunkID: source.chunkID,
          entry: entry,
          pageCount: source.pageCount,
          encoding: source.encoding,
          storedByteCount: source.storedByteCount,
          firstDigest: firstDigest,
          fingerprints: source.hasFingerprints ? fingerprints.count : nil
        )
      )
      if source.hasFingerprints {
        fingerprints.append(
          contentsOf: source.fingerprints[..<(source.pageCount * PageFingerprinter.byteCount)]
        )
      }
      return entry
    }
  }

  private let link: RemoteLink
  private let check: PageCheck
  private let title: String
  private let sent = Mutex<[Sent]>([])

  /// - Parameters:
  ///   - check: How chunks are proved before they are sent.
  ///   - title: The snapshot's, for messages.
  init(_ link: RemoteLink, _ check: PageCheck, title: String) {
    self.link = link
    self.check = check
    self.title = title
  }

  /// What is thrown for a chunk that is not what its row says.
  func damage(_ chunkID: Int64, _ problem: String) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "\(title) is damaged: chunk \(chunkID): \(problem)",
      hint: "see what is hurt with: vmckpt verify"
    )
  }

  /// What sends packs on one thread.
  func makeSender() throws(VMCheckpointError) -> ((Item) throws(VMCheckpointError) -> Void) {
    let buffer = try ChunkBuffer()
    let decoder = try LZ4FrameDecoder()
    return { (item) throws(VMCheckpointError) in
      for chunk in item.chunks {
        Self.load(chunk, of: item, into: buffer)
        if let problem = buffer.decompress(with: decoder, check: self.check) {
          throw self.damage(chunk.chunkID, problem)
        }
      }
      try self.send(item)
    }
  }

  private static func load(_ chunk: Item.Chunk, of item: Item, into buffer: ChunkBuffer) {
    buffer.begin(chunkID: chunk.chunkID)
    buffer.pageCount = chunk.pageCount
    buffer.encoding = chunk.encoding
    buffer.storedByteCount = chunk.storedByteCount
    let start = Int(item.builder.offsets[chunk.entry])
    item.builder.bytes.withUnsafeBytes { bytes in
      buffer.stored.copyMemory(
        from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + chunk.storedByteCount)])
      )
    }
    item.builder.withDigests(from: chunk.firstDigest, count: chunk.pageCount) {
      buffer.digests.copyMemory(from: $0)
    }
    guard let start = chunk.fingerprints else { return }
    item.fingerprints.withUnsafeBytes { bytes in
      let end = start + chunk.pageCount * PageFingerprinter.byteCount
      buffer.fingerprints.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
    }
    buffer.hasFingerprints = true
  }

  private func send(_ item: Item) throws(VMCheckpointError) {
    let builder = item.builder
    builder.finish()
    try link.put(RemoteNames.pack(builder.id), builder.bytes)
    let done = Sent(
      id: builder.id,
      byteCount: UInt64(builder.bytes.count),
      footer: Array(builder.footer),
      places: item.chunks.map { ($0.chunkID, $0.entry, builder.offsets[$0.entry]) }
    )
    sent.withLock { $0.append(done) }
  }

  /// The packs that the server has since this was called last.
  func takeSent() -> [Sent] {
    sent.withLock { all in
      defer { all = [] }
      return all
    }
  }
}
