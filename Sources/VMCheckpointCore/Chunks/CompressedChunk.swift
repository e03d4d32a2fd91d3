/// The data of a chunk whose encoding is `lz4`: a frame, and behind it the mark of ``ShuffledSlots`` where
/// pages are shuffled.
///
/// Trusts nothing in it; valid as long as the bytes that it was made of.
package struct CompressedChunk {
  private let frame: UnsafeRawBufferPointer
  private let shuffled: ShuffledSlots
  private let pageCount: Int

  /// Takes the data of a chunk of `pageCount` pages apart.
  ///
  /// - Throws: ``ChunkDamage`` when the mark is damaged.
  package init(_ data: UnsafeRawBufferPointer, pageCount: Int) throws(ChunkDamage) {
    guard let (frame, shuffled) = ShuffledSlots.split(data, pageCount: pageCount) else {
      throw ChunkDamage(description: "its mark of shuffled pages is damaged")
    }
    self.frame = frame
    self.shuffled = shuffled
    self.pageCount = pageCount
  }

  /// Fills `pages` with all of the chunk's pages, the frame's checksum found right.
  ///
  /// - Precondition: `pages` has room for exactly as many as the chunk has.
  /// - Throws: ``ChunkDamage``; `pages` holds anything then.
  package func decode(
    into pages: UnsafeMutableRawBufferPointer,
    with decoder: LZ4FrameDecoder
  ) throws(ChunkDamage) {
    precondition(pages.count == pageCount * Page.byteCount)
    // Frames that other programs have put there may have any other shape; liblz4 reports damage.
    if ChunkFrame(frame, contentByteCount: pages.count)?.decode(into: pages) != true,
      let problem = decoder.decompress(frame, into: pages)
    {
      throw ChunkDamage(description: "its LZ4 frame is damaged (\(problem))")
    }
    shuffled.unshuffle(pages)
  }

  /// Fills `pages` with all of the chunk's pages, which nothing has checked then.
  ///
  /// - Returns: Whether that could be done. ``decode(into:with:)`` reports what is wrong, or that
  ///   nothing is.
  package func decodeUnchecked(into pages: UnsafeMutableRawBufferPointer) -> Bool {
    guard ChunkFrame(frame, contentByteCount: pages.count)?.decodeUnchecked(into: pages) == true
    else { return false }
    shuffled.unshuffle(pages)
    return true
  }

  /// Fills `pages` with the first of the chunk's pages, which nothing has checked then.
  ///
  /// - Parameter wanted: The slots whose pages are put in order; others hold anything. `nil`: all.
  /// - Returns: Whether that could be done. ``decode(into:with:)`` reports what is wrong, or that
  ///   nothing is.
  package func decodeBeginning(
    into pages: UnsafeMutableRawBufferPointer,
    inOrder wanted: Range<Int>? = nil
  ) -> Bool {
    let frame = ChunkFrame(frame, contentByteCount: pageCount * Page.byteCount)
    guard frame?.decodeBeginning(into: pages) == true else { return false }
    shuffled.unshuffle(pages, slots: wanted)
    return true
  }
}

/// What is wrong with a chunk's data, as a sentence about "its" parts goes on.
package struct ChunkDamage: Error, CustomStringConvertible {
  package let description: String
}
