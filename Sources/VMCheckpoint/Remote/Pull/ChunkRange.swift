/// Chunks that one GET brings, and the memory for it.
///
/// Handed from thread to thread; the thread that has it uses it alone.
final class ChunkRange: @unchecked Sendable {
  /// What one GET brings at most. A larger one gains nothing, and a smaller one costs requests.
  static let byteLimit = 4 << 20
  /// Bytes that nobody asked for, and that one GET may bring between two chunks: less than another request costs.
  static let gapByteLimit = 256 << 10

  /// A chunk in the range.
  struct Part {
    var chunkID: Int64
    var pageCount: Int
    var encoding: ChunkEncoding
    /// Where it begins in the range.
    var start: Int
    var storedByteCount: Int
    /// 32 bytes for each page.
    var digests: [UInt8]
  }

  private(set) var pack = RemoteID()
  private(set) var offset: UInt64 = 0
  private(set) var byteCount = 0
  private(set) var parts: [Part] = []
  private let memory: UnsafeMutableRawBufferPointer
  /// 8 bytes for each page of each part.
  private(set) var fingerprints: [UInt8] = []

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init() throws(VMCheckpointError) {
    memory = try LargeMemory.allocate(byteCount: Self.byteLimit)
  }

  deinit { LargeMemory.free(memory) }

  /// Begins another range.
  func begin(_ pack: RemoteID, offset: UInt64) {
    self.pack = pack
    self.offset = offset
    byteCount = 0
    parts.removeAll(keepingCapacity: true)
  }

  /// Adds a chunk that begins at `offset` in the pack, behind the one before.
  ///
  /// - Returns: Whether there was room.
  func add(_ part: Part, in pack: RemoteID, at offset: UInt64) -> Bool {
    guard pack == self.pack, offset >= self.offset + UInt64(byteCount),
      offset - self.offset - UInt64(byteCount) <= UInt64(parts.isEmpty ? 0 : Self.gapByteLimit),
      offset - self.offset + UInt64(part.storedByteCount) <= UInt64(Self.byteLimit)
    else { return false }
    var part = part
    part.start = Int(offset - self.offset)
    byteCount = part.start + part.storedByteCount
    parts.append(part)
    return true
  }

  /// The stored form of a part.
  func stored(_ part: Part) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: memory[part.start..<(part.start + part.storedByteCount)])
  }

  /// Reads the range, and checks each page of each chunk against its SHA-256.
  ///
  /// - Throws: As ``RemoteTransport``; `notFound` when the pack is gone; `corrupt` when a chunk is not what its row says.
  func load(
    _ transport: any RemoteTransport,
    _ chunk: ChunkBuffer,
    _ decoder: LZ4FrameDecoder,
    _ fingerprinter: PageFingerprinter
  ) throws(VMCheckpointError) {
    let title = "\(transport.title): pack \(pack)"
    let read = try transport.get(
      RemoteNames.pack(pack),
      .bytes(offset: offset, count: byteCount),
      into: UnsafeMutableRawBufferPointer(rebasing: memory[..<byteCount])
    )
    guard let read else { throw VMCheckpointError(.notFound, "\(title) is gone") }
    guard read.readByteCount == byteCount else { throw .corrupt("\(title) is cut off") }
    fingerprints.removeAll(keepingCapacity: true)
    for part in parts {
      chunk.begin(chunkID: part.chunkID)
      chunk.pageCount = part.pageCount
      chunk.encoding = part.encoding
      chunk.storedByteCount = part.storedByteCount
      chunk.stored.copyMemory(from: stored(part))
      part.digests.withUnsafeBytes { chunk.digests.copyMemory(from: $0) }
      if let problem = chunk.decompress(with: decoder, check: .digests) {
        throw .corrupt("\(title), chunk \(part.chunkID): \(problem)")
      }
      for slot in 0..<part.pageCount {
        let fingerprint = fingerprinter.fingerprint(of: chunk.page(slot).baseAddress!)
        withUnsafeBytes(of: fingerprint.littleEndian) { fingerprints.append(contentsOf: $0) }
      }
    }
  }
}
