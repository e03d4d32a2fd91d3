import Synchronization

/// Packs that are filled on one thread and sent on others.
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
    let builder = PackBuilder()
    var chunks: [(chunkID: Int64, entry: Int)] = []

    func begin() {
      builder.begin()
      chunks.removeAll(keepingCapacity: true)
    }
  }

  private let link: RemoteLink
  private let sent = Mutex<[Sent]>([])

  init(_ link: RemoteLink) { self.link = link }

  /// Sends a pack; called on the threads that do so.
  func send(_ item: Item) throws(VMCheckpointError) {
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
