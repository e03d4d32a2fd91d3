/// How a chunk's data is stored.
enum ChunkEncoding: Sendable {
  /// A standard LZ4 frame with a content checksum.
  case lz4
  /// The pages themselves, because they do not compress.
  case raw
}

/// A chunk being made or being read: its pages, their digests and its stored form, in memory that
/// is allocated once and used for one chunk after another.
///
/// Handed from thread to thread; whoever has it uses it alone.
final class ChunkBuffer: @unchecked Sendable {
  /// 64 KiB; the first `pageCount` pages are valid.
  let pages: UnsafeMutableRawBufferPointer
  /// 32 bytes a slot.
  let digests: UnsafeMutableRawBufferPointer
  /// The stored form; its first `storedByteCount` bytes are valid.
  let stored: UnsafeMutableRawBufferPointer

  var chunkID: Int64 = 0
  var pageCount = 0
  var encoding = ChunkEncoding.raw
  var storedByteCount = 0
  /// Whether `optimize` makes it, and need not make it again.
  var isOptimized = false

  init() {
    pages = .allocate(byteCount: StoreFormat.chunkByteCapacity, alignment: Page.byteCount)
    digests = .allocate(
      byteCount: StoreFormat.chunkPageCapacity * PageDigest.byteCount,
      alignment: 64
    )
    stored = .allocate(
      byteCount: LZ4ChunkFrame.bound(byteCount: StoreFormat.chunkByteCapacity),
      alignment: 64
    )
  }

  deinit {
    pages.deallocate()
    digests.deallocate()
    stored.deallocate()
  }

  var isFull: Bool { pageCount == StoreFormat.chunkPageCapacity }

  /// The bytes of the pages that are valid.
  var validPages: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: pages[..<(pageCount * Page.byteCount)])
  }

  /// The page in `slot`.
  func page(_ slot: Int) -> UnsafeRawBufferPointer {
    let start = slot * Page.byteCount
    return UnsafeRawBufferPointer(rebasing: pages[start..<(start + Page.byteCount)])
  }

  /// The digest in `slot`.
  func digest(_ slot: Int) -> PageDigest {
    PageDigest(loadingFrom: UnsafeRawPointer(digests.baseAddress!) + slot * PageDigest.byteCount)
  }

  /// Starts a new chunk.
  func begin(chunkID: Int64) {
    self.chunkID = chunkID
    pageCount = 0
    storedByteCount = 0
  }

  /// Makes this a chunk without pages, which decompresses to nothing.
  func makeEmpty(chunkID: Int64) {
    begin(chunkID: chunkID)
    encoding = .raw
  }

  /// Copies a page of 4096 bytes into the next slot.
  ///
  /// - Precondition: The buffer is not full.
  /// - Returns: Where the page will be stored.
  func append(_ page: UnsafeRawPointer, digest: PageDigest) -> PageLocation {
    precondition(!isFull)
    let slot = pageCount
    (pages.baseAddress! + slot * Page.byteCount)
      .copyMemory(from: page, byteCount: Page.byteCount)
    digest.store(to: digests.baseAddress! + slot * PageDigest.byteCount)
    pageCount += 1
    return PageLocation(chunkID: chunkID, slot: slot)
  }

  /// Makes the stored form of the pages: an LZ4 frame, or the pages where those are no longer.
  ///
  /// - Precondition: There is a page.
  func compress(with compressor: ChunkCompressor) {
    let raw = UnsafeRawBufferPointer(validPages)
    let frameByteCount =
      compressor.isActive ? LZ4ChunkFrame.compress(raw, into: stored, with: compressor) : raw.count
    if frameByteCount < raw.count {
      encoding = .lz4
      storedByteCount = frameByteCount
    } else {
      encoding = .raw
      storedByteCount = raw.count
      stored.copyMemory(from: raw)
    }
  }

  /// Makes the pages from the stored form.
  ///
  /// - Parameter verifyingDigests: Whether to compare every page with its digest. Raw chunks are
  ///   compared always: they have no checksum of their own.
  /// - Returns: `nil` when that went well, else what is wrong with the chunk.
  func decompress(with decoder: LZ4FrameDecoder, verifyingDigests: Bool) -> String? {
    let source = UnsafeRawBufferPointer(rebasing: stored[..<storedByteCount])
    switch encoding {
    case .lz4:
      // Frames that others have put there may have any other shape, and damage is told by liblz4.
      if !LZ4ChunkFrame.decompress(source, into: validPages),
        let problem = decoder.decompress(source, into: validPages)
      {
        return "its LZ4 frame is damaged (\(problem))"
      }
    case .raw:
      guard source.count == validPages.count else { return "its length is wrong" }
      validPages.copyMemory(from: source)
    }
    guard verifyingDigests || encoding == .raw else { return nil }
    for slot in 0..<pageCount where PageDigest(of: page(slot)) != digest(slot) {
      return "the page in slot \(slot) does not have its SHA-256"
    }
    return nil
  }
}
