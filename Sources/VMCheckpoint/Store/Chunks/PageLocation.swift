/// Where a page's content is stored: a chunk and a slot in it.
struct PageLocation: Hashable, Sendable {
  /// Chunk and slot in one word, chunk << 4 | slot: the form in which index entries hold it.
  let packed: UInt64

  /// What leaves room for the slot.
  static let validChunkIDs: Range<Int64> = 1..<(1 << 59)

  init(packed: UInt64) {
    self.packed = packed
  }

  /// - Precondition: `chunkID` is in ``validChunkIDs``, and `slot` below 16.
  init(chunkID: Int64, slot: Int) {
    assert(
      Self.validChunkIDs.contains(chunkID) && slot >= 0 && slot < StoreFormat.chunkPageCapacity
    )
    self.packed = UInt64(chunkID) << 4 | UInt64(slot)
  }

  var chunkID: Int64 { Int64(packed >> 4) }
  var slot: Int { Int(packed & 15) }
}
