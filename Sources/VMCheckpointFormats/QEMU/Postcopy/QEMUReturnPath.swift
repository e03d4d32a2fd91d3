import VMCheckpoint

/// What a QEMU that is migrated to says to the source: messages of a type, a length, and data.
///
/// The peer may be anybody: nothing is kept that is longer than QEMU's longest message, and a bitmap only of the size
/// that is waited for.
///
/// Source: QEMU `migration/migration.c`, `migrate_send_rp_message` and `source_return_path_thread`.
struct QEMUReturnPath {
  /// A message.
  enum Message: Hashable {
    /// The migration is over for QEMU: 0, or an error.
    case end(UInt32)
    /// The answer to a ping.
    case pong(UInt32)
    /// Somebody waits for pages of a block, in bytes.
    case request(block: [UInt8], start: UInt64, byteCount: UInt32)
    /// Which pages of a block are there, a bit for each.
    case received(block: [UInt8], bitmap: [UInt8])
    /// QEMU goes on after a recovery, if this is 1.
    case resumed(UInt32)
  }

  private enum Kind {
    static let end: UInt16 = 1
    static let pong: UInt16 = 2
    static let requestOfBlock: UInt16 = 3
    static let request: UInt16 = 4
    static let received: UInt16 = 5
    static let resumed: UInt16 = 6
    static let switchover: UInt16 = 7
  }

  /// QEMU's own limit.
  private static let maximumByteCount = 512
  /// The value of `resumed` with which QEMU goes on.
  static let resumedValue: UInt32 = 1
  /// What follows a bitmap.
  private static let bitmapEnd: UInt64 = 0x0123_4567_89ab_cdef

  private var pending: [UInt8] = []
  private var start = 0
  /// The block of the last request, which the next one may leave out.
  private var lastBlock: [UInt8]?
  /// The block whose bitmap comes, once its message was read.
  private var bitmapBlock: [UInt8]?
  /// How many bits the bitmap has that is waited for.
  private var bitmapBitCount: UInt64?

  /// Waits for the bitmap of a block of so many pages.
  mutating func expectBitmap(pageCount: UInt64) { bitmapBitCount = pageCount }

  /// What came and is not a whole message yet.
  var rest: ArraySlice<UInt8> { pending[start...] }

  /// A request as QEMU sends it.
  static func request(block: [UInt8], start: UInt64, byteCount: UInt32) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBigEndian(Kind.requestOfBlock)
    bytes.appendBigEndian(UInt16(13 + block.count))
    bytes.appendBigEndian(start)
    bytes.appendBigEndian(byteCount)
    bytes.append(UInt8(block.count))
    return bytes + block
  }

  /// Takes bytes as they came.
  mutating func feed(_ bytes: some Sequence<UInt8>) {
    if start > 0 {
      pending.removeSubrange(..<start)
      start = 0
    }
    pending += bytes
  }

  /// The next message; `nil` when it is not complete.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` when QEMU cannot have sent it.
  mutating func next() throws(VMCheckpointError) -> Message? {
    while true {
      if let block = bitmapBlock { return try nextBitmap(of: block) }
      guard let kind = number(UInt16.self, at: 0), let length = number(UInt16.self, at: 2) else {
        return nil
      }
      let byteCount = Int(length)
      guard byteCount <= Self.maximumByteCount else {
        throw Self.invalid("a message of \(byteCount) bytes")
      }
      guard pending.count - start >= 4 + byteCount else { return nil }
      let data = pending[(start + 4)..<(start + 4 + byteCount)]
      start += 4 + byteCount
      if let message = try message(kind, data) { return message }
    }
  }

  /// - Returns: `nil` for what only announces something, or means nothing here.
  private mutating func message(
    _ kind: UInt16,
    _ data: ArraySlice<UInt8>
  ) throws(VMCheckpointError) -> Message? {
    func word() throws(VMCheckpointError) -> UInt32 {
      guard data.count == 4 else { throw Self.invalid("\(data.count) bytes in message \(kind)") }
      return UInt32(Self.bigEndian(data))
    }
    switch kind {
    case Kind.end: return .end(try word())
    case Kind.pong: return .pong(try word())
    case Kind.resumed: return .resumed(try word())
    case Kind.switchover where data.isEmpty: return nil
    case Kind.request, Kind.requestOfBlock:
      var block = lastBlock
      if kind == Kind.requestOfBlock {
        guard data.count > 13, Int(data[data.startIndex + 12]) == data.count - 13 else {
          throw Self.invalid("a request of \(data.count) bytes")
        }
        block = Array(data.dropFirst(13))
        lastBlock = block
      } else if data.count != 12 {
        throw Self.invalid("a request of \(data.count) bytes")
      }
      guard let block else { throw Self.invalid("a request without a memory block") }
      return .request(
        block: block,
        start: Self.bigEndian(data.prefix(8)),
        byteCount: UInt32(Self.bigEndian(data.dropFirst(8).prefix(4)))
      )
    case Kind.received:
      guard bitmapBitCount != nil, let length = data.first, Int(length) == data.count - 1 else {
        throw Self.invalid("a bitmap that was not asked for")
      }
      bitmapBlock = Array(data.dropFirst())
      return nil
    default: throw Self.invalid("message \(kind), which is unknown")
    }
  }

  private mutating func nextBitmap(of block: [UInt8]) throws(VMCheckpointError) -> Message? {
    guard let byteCount = number(UInt64.self, at: 0) else { return nil }
    let expected = ((bitmapBitCount ?? 0) + 63) / 64 * 8
    guard byteCount == expected else {
      throw Self.invalid("a bitmap of \(byteCount) bytes in place of \(expected)")
    }
    let end = 8 + Int(byteCount)
    guard let mark = number(UInt64.self, at: end) else { return nil }
    guard mark == Self.bitmapEnd else { throw Self.invalid("a bitmap without its end") }
    let bitmap = Array(pending[(start + 8)..<(start + end)])
    start += end + 8
    bitmapBlock = nil
    bitmapBitCount = nil
    return .received(block: block, bitmap: bitmap)
  }

  private func number<Value: FixedWidthInteger>(_: Value.Type, at offset: Int) -> Value? {
    let first = start + offset
    guard pending.count - first >= MemoryLayout<Value>.size else { return nil }
    return pending[first..<(first + MemoryLayout<Value>.size)].reduce(0) { $0 << 8 | Value($1) }
  }

  private static func bigEndian(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// The error for what QEMU cannot have sent.
  static func invalid(_ what: String) -> VMCheckpointError {
    .invalidData(
      "QEMU's return path has \(what)",
      hint: "see that QEMU, and nothing else, is at the other end"
    )
  }
}
