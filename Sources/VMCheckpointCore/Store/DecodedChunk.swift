import Glibc

/// A chunk's pages, or the first of them.
package final class DecodedChunk {
  package private(set) var id: Int64 = 0
  package private(set) var pageCount = 0
  private(set) var isCompressed = false
  private(set) var storedByteCount: Int64 = 0
  /// Pages from slot 0 on that are there.
  var decodedPageCount = 0
  /// Whether all pages are there and have been found right.
  var isChecked = false
  /// Whether a ``DecodingThread`` has it.
  var isBegun = false
  var lastUse: UInt64 = 0
  private var checkedSlots: UInt16 = 0
  private let allPages: UnsafeMutableRawBufferPointer
  private let digests: UnsafeMutableRawBufferPointer

  init() {
    allPages = .allocate(byteCount: ChunkFormat.byteCapacity, alignment: Page.byteCount)
    digests = .allocate(byteCount: ChunkFormat.pageCapacity * PageDigest.byteCount, alignment: 64)
  }

  deinit {
    allPages.deallocate()
    digests.deallocate()
  }

  func pages(count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: allPages[..<(count * Page.byteCount)])
  }

  func holds(_ row: ChunkRow) -> Bool {
    id == row.id && pageCount == row.pageCount && isCompressed == (row.encoding == .lz4)
      && storedByteCount == row.statedByteCount
      && UnsafeRawBufferPointer(rebasing: digests[..<row.digests.count]).isEqual(to: row.digests)
  }

  func begin(_ row: ChunkRow) {
    id = row.id
    pageCount = row.pageCount
    isCompressed = row.encoding == .lz4
    storedByteCount = row.statedByteCount
    decodedPageCount = 0
    isChecked = false
    checkedSlots = 0
    digests.copyMemory(from: row.digests)
  }

  func clear() {
    id = 0
    pageCount = 0
    decodedPageCount = 0
    isChecked = false
  }

  /// The pages in `count` slots from `slot` on, 4096 bytes each; valid until another chunk is read.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the chunk has no such slots.
  package func pages(
    from slot: Int,
    count: Int
  ) throws(VMCheckpointError) -> UnsafeRawBufferPointer {
    guard slot >= 0, count >= 0, slot + count <= decodedPageCount else {
      throw VMCheckpointError.noSlot(slot + count - 1, chunkID: id)
    }
    let start = slot * Page.byteCount
    return UnsafeRawBufferPointer(rebasing: allPages[start..<(start + count * Page.byteCount)])
  }

  /// Whether all pages are there and have these fingerprints.
  func hasFingerprints(
    _ fingerprints: UnsafeRawBufferPointer?,
    _ fingerprinter: PageFingerprinter
  ) -> Bool {
    guard let fingerprints, decodedPageCount == pageCount else { return false }
    let pages = UnsafeRawBufferPointer(pages(count: pageCount))
    return fingerprinter.firstMismatch(pages, fingerprints) == nil
  }

  /// Fills in all pages from the chunk's data, and finds them right: they have their fingerprints, or, where these do
  /// not agree or are missing, their SHA-256s.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`; the chunk holds anything then.
  func decode(
    _ stored: UnsafeRawBufferPointer,
    _ fingerprints: UnsafeRawBufferPointer?,
    _ fingerprinter: PageFingerprinter,
    with decoder: LZ4FrameDecoder
  ) throws(VMCheckpointError) {
    // Fingerprints tell more than the frame's checksum, and sooner. Who finds damage says what kind it is.
    if isCompressed, try decodeUnchecked(stored), hasFingerprints(fingerprints, fingerprinter) {
      isChecked = true
      return
    }
    try decode(stored, with: decoder)
    if !hasFingerprints(fingerprints, fingerprinter) {
      for slot in 0..<pageCount { _ = try checkedPage(slot) }
    }
    isChecked = true
  }

  /// Fills in all pages from the chunk's data; the frame's checksum is found right.
  ///
  /// - Throws: As ``decode(_:_:_:with:)``.
  func decode(
    _ stored: UnsafeRawBufferPointer,
    with decoder: LZ4FrameDecoder
  ) throws(VMCheckpointError) {
    let pages = pages(count: pageCount)
    if isCompressed {
      try naming { () throws(ChunkDamage) in
        try CompressedChunk(stored, pageCount: pageCount).decode(into: pages, with: decoder)
      }
    } else {
      guard stored.count == pages.count else { throw .wrongLength(id) }
      pages.copyMemory(from: stored)
    }
    decodedPageCount = pageCount
  }

  /// Fills in all pages from the chunk's compressed data, which nothing has checked then.
  ///
  /// - Returns: Whether that could be done.
  private func decodeUnchecked(_ stored: UnsafeRawBufferPointer) throws(VMCheckpointError) -> Bool {
    let pages = pages(count: pageCount)
    let isDecoded = try naming { () throws(ChunkDamage) in
      try CompressedChunk(stored, pageCount: pageCount).decodeUnchecked(into: pages)
    }
    if isDecoded { decodedPageCount = pageCount }
    return isDecoded
  }

  /// Runs `body`, and names the chunk when it is damaged.
  func naming<Result>(
    _ body: () throws(ChunkDamage) -> Result
  ) throws(VMCheckpointError) -> Result {
    do throws(ChunkDamage) {
      return try body()
    } catch {
      throw .corrupt("chunk \(id): \(error)")
    }
  }

  /// The page in `slot`, its SHA-256 compared with its digest; valid until another chunk is read.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they differ, or the chunk has no such slot.
  func checkedPage(_ slot: Int) throws(VMCheckpointError) -> UnsafeRawBufferPointer {
    let page = try pages(from: slot, count: 1)
    guard checkedSlots & 1 << UInt16(slot) == 0 else { return page }
    let digest = PageDigest(
      loadingFrom: UnsafeRawPointer(digests.baseAddress! + slot * PageDigest.byteCount)
    )
    guard PageDigest(of: page) == digest else {
      throw VMCheckpointError.corrupt(
        "chunk \(id): the page in slot \(slot) does not have its SHA-256"
      )
    }
    checkedSlots |= 1 << UInt16(slot)
    return page
  }
}

extension VMCheckpointError {
  static func wrongLength(_ chunkID: Int64) -> VMCheckpointError {
    .corrupt("chunk \(chunkID): its length is wrong")
  }
}

extension UnsafeRawBufferPointer {
  func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
    count == other.count && (isEmpty || memcmp(baseAddress!, other.baseAddress!, count) == 0)
  }
}
