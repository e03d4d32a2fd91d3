import GRDB

/// The chunks that were read last, decoded: pages that are stored side by side come from few chunks.
struct DecodedChunks {
  /// 8 MiB with their stored forms.
  private static let capacity = 64

  private let reader: ChunkReader
  private let decoder: LZ4FrameDecoder
  private let check: PageCheck
  private let buffers: [ChunkBuffer]
  private var places: [Int64: Int] = [:]
  /// Whether a buffer was asked for since the hand passed it.
  private var isUsed = [Bool](repeating: false, count: capacity)
  private var hand = 0
  private var last: ChunkBuffer?

  init(_ database: Database) throws {
    reader = try ChunkReader(database)
    decoder = try LZ4FrameDecoder()
    buffers = try ChunkBuffer.make(Self.capacity)
    check = try PageCheck(database, verifyingDigests: false)
  }

  /// The chunk with its pages and digests, which are not compared with each other; `nil` when it
  /// cannot be read. Valid until the next call.
  mutating func chunk(_ chunkID: Int64) throws -> ChunkBuffer? {
    if let last, last.chunkID == chunkID { return last }
    if let place = places[chunkID] {
      isUsed[place] = true
      last = buffers[place]
      return last
    }
    last = nil
    while isUsed[hand] {
      isUsed[hand] = false
      hand = (hand + 1) % Self.capacity
    }
    let place = hand
    hand = (hand + 1) % Self.capacity
    let buffer = buffers[place]
    if places[buffer.chunkID] == place { places[buffer.chunkID] = nil }
    let problem =
      try reader.load(chunkID, into: buffer)
      ?? buffer.decompress(with: decoder, check: check)
    guard problem == nil else {
      buffer.begin(chunkID: 0)
      return nil
    }
    places[chunkID] = place
    isUsed[place] = true
    last = buffer
    return buffer
  }
}
