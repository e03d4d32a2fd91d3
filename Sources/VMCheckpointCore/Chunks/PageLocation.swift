/// Where a page's content is stored: a chunk and a slot in it.
package struct PageLocation: Hashable, Sendable {
  /// Chunk and slot in one word, chunk << 4 | slot: the form in which index entries hold it.
  package let packed: UInt64

  /// What leaves room for the slot.
  package static let validChunkIDs: Range<Int64> = 1..<(1 << 59)

  package init(packed: UInt64) {
    self.packed = packed
  }

  /// - Precondition: `chunkID` is in ``validChunkIDs``, and `slot` below 16.
  package init(chunkID: Int64, slot: Int) {
    assert(
      Self.validChunkIDs.contains(chunkID) && slot >= 0 && slot < ChunkFormat.pageCapacity
    )
    self.packed = UInt64(chunkID) << 4 | UInt64(slot)
  }

  package var chunkID: Int64 { Int64(packed >> 4) }
  package var slot: Int { Int(packed & 15) }
}
