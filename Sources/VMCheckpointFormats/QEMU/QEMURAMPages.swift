import VMCheckpoint

/// The pages that a migration stream has sent, of all blocks one after the other: put down in a
/// ``QEMURAMSpool``, or left where they are, ``QEMURAMInPlace``. A stream sends pages in any order, and some of
/// them several times: the last one counts.
///
/// Offsets are into the sequence of blocks, at multiples of 4096 (``QEMURAMBlock/spoolOffset``).
protocol QEMURAMPages: AnyObject {
  /// Takes a page.
  ///
  /// - Parameter source: Where its bytes are in the stream's file; `nil`: the stream is not in a file, or all bytes of the
  ///   page are the same and came as one.
  func write(
    _ page: UnsafeRawBufferPointer,
    at offset: UInt64,
    from source: UInt64?
  ) throws(VMCheckpointError)

  /// Takes a page of zeros.
  func writeZero(at offset: UInt64) throws(VMCheckpointError)

  /// Writes what is held back. Called before any page is read.
  func flush() throws(VMCheckpointError)

  /// How many pages of `block` the stream has sent.
  func sentPageCount(of block: QEMURAMBlock) -> UInt64

  /// Whether the stream has sent the page at `offset`, as zeros or not.
  func isSent(at offset: UInt64) -> Bool

  /// Whether the page at `offset` may be something else than zeros.
  func hasBytes(at offset: UInt64) -> Bool

  /// Reads a page back.
  func read(into page: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(VMCheckpointError)
}

extension QEMURAMBlock {
  /// Its pages, counted from the first of all blocks.
  var pageIndices: Range<Int> {
    let first = Int(Page.count(inByteCount: spoolOffset))
    return first..<(first + Int(pageCount))
  }
}
