/// How a chunk's data is stored.
package enum ChunkEncoding: Sendable {
  /// A standard LZ4 frame with a content checksum, and the mark of ``ShuffledSlots`` where it has any.
  case lz4
  /// The pages themselves, because they do not compress.
  case raw
}

/// A chunk being made or being read: its pages, their digests and its stored form, in memory that
/// is allocated once and used for one chunk after another.
///
/// Handed from thread to thread; the thread that has it uses it alone.
package final class ChunkBuffer: @unchecked Sendable {
  /// 64 KiB; the first `pageCount` pages are valid.
  package let pages: UnsafeMutableRawBufferPointer
  /// 32 bytes a slot.
  package let digests: UnsafeMutableRawBufferPointer
  /// 8 bytes a slot.
  package let fingerprints: UnsafeMutableRawBufferPointer
  /// The stored form; its first `storedByteCount` bytes are valid.
  package let stored: UnsafeMutableRawBufferPointer
  /// All of the above.
  private let memory: UnsafeMutableRawBufferPointer

  package var chunkID: Int64 = 0
  package var pageCount = 0
  package var encoding = ChunkEncoding.raw
  package var storedByteCount = 0
  /// What the chunk's row says of `storedByteCount`, which space counts rely on.
  package var statedByteCount: Int64 = 0
  /// Whether `fingerprints` are those of the chunk's row.
  package var hasFingerprints = false
  /// Whether `optimize` makes it, and need not make it again.
  package var isOptimized = false

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package init() throws(VMCheckpointError) {
    let byteCounts = [
      ChunkFormat.byteCapacity,
      ChunkFormat.pageCapacity * PageDigest.byteCount,
      ChunkFormat.pageCapacity * PageFingerprinter.byteCount,
      ChunkFrame.bound(byteCount: ChunkFormat.byteCapacity) + ShuffledSlots.markByteCount,
    ]
    let memory = try LargeMemory.allocate(byteCount: byteCounts.reduce(0, +))
    var offset = 0
    // Each but the last is a multiple of 64 bytes, so that all begin at one.
    let parts = byteCounts.map { byteCount in
      defer { offset += byteCount }
      return UnsafeMutableRawBufferPointer(rebasing: memory[offset..<(offset + byteCount)])
    }
    self.memory = memory
    (pages, digests, fingerprints, stored) = (parts[0], parts[1], parts[2], parts[3])
  }

  /// Makes `count` of them.
  ///
  /// - Throws: As ``init()``.
  package static func make(_ count: Int) throws(VMCheckpointError) -> [ChunkBuffer] {
    try (0..<count).map { _ throws(VMCheckpointError) in try ChunkBuffer() }
  }

  deinit { LargeMemory.free(memory) }

  package var isFull: Bool { pageCount == ChunkFormat.pageCapacity }

  /// The bytes of the pages that are valid.
  package var validPages: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: pages[..<(pageCount * Page.byteCount)])
  }

  /// The page in `slot`.
  package func page(_ slot: Int) -> UnsafeRawBufferPointer {
    let start = slot * Page.byteCount
    return UnsafeRawBufferPointer(rebasing: pages[start..<(start + Page.byteCount)])
  }

  /// The digest in `slot`.
  package func digest(_ slot: Int) -> PageDigest {
    PageDigest(loadingFrom: UnsafeRawPointer(digests.baseAddress!) + slot * PageDigest.byteCount)
  }

  /// Starts a new chunk.
  package func begin(chunkID: Int64) {
    self.chunkID = chunkID
    pageCount = 0
    storedByteCount = 0
    hasFingerprints = false
  }

  /// Makes this a chunk without pages, which decompresses to nothing.
  package func makeEmpty(chunkID: Int64) {
    begin(chunkID: chunkID)
    encoding = .raw
  }

  /// Copies a page of 4096 bytes into the next slot.
  ///
  /// - Precondition: The buffer is not full.
  /// - Returns: Where the page will be stored.
  package func append(_ page: UnsafeRawPointer, digest: PageDigest) -> PageLocation {
    precondition(!isFull)
    let slot = pageCount
    (pages.baseAddress! + slot * Page.byteCount)
      .copyMemory(from: page, byteCount: Page.byteCount)
    digest.store(to: digests.baseAddress! + slot * PageDigest.byteCount)
    pageCount += 1
    return PageLocation(chunkID: chunkID, slot: slot)
  }

  /// Makes the stored form of the pages: an LZ4 frame, or the pages where those are no longer; and
  /// their fingerprints.
  ///
  /// - Precondition: There is a page.
  package func compress(with compressor: ChunkCompressor, _ fingerprinter: PageFingerprinter) {
    makeFingerprints(fingerprinter)
    let raw = UnsafeRawBufferPointer(validPages)
    encoding = .lz4
    storedByteCount = compressor.isActive ? makeFrame(of: raw, with: compressor) : raw.count
    if storedByteCount >= raw.count {
      encoding = .raw
      storedByteCount = raw.count
      stored.copyMemory(from: raw)
    }
  }

  /// Makes the fingerprints of the pages.
  package func makeFingerprints(_ fingerprinter: PageFingerprinter) {
    for slot in 0..<pageCount {
      fingerprints.storeBytes(
        of: fingerprinter.fingerprint(of: page(slot).baseAddress!).littleEndian,
        toByteOffset: slot * PageFingerprinter.byteCount,
        as: UInt64.self
      )
    }
  }

  private func makeFrame(
    of raw: UnsafeRawBufferPointer,
    with compressor: ChunkCompressor
  ) -> Int {
    let (content, shuffled) = compressor.arrange(raw)
    let byteCount = ChunkFrame.compress(content, into: stored, with: compressor)
    guard shuffled.bits != 0 else { return byteCount }
    shuffled.writeMark(behindFrameAt: stored.baseAddress! + byteCount)
    return byteCount + ShuffledSlots.markByteCount
  }

  /// What is wrong with the fingerprints of the pages, if anything is.
  package func fingerprintProblem(_ fingerprinter: PageFingerprinter) -> String? {
    guard pageCount > 0 else { return nil }
    guard hasFingerprints else { return "its row has a wrong number of fingerprints" }
    return fingerprinter.firstMismatch(
      UnsafeRawBufferPointer(validPages),
      UnsafeRawBufferPointer(fingerprints)
    ).map { "its row has a wrong fingerprint for slot \($0)" }
  }

  /// Makes the pages from the stored form.
  ///
  /// - Returns: `nil` when that went well, else what is wrong with the chunk.
  package func decompress(with decoder: LZ4FrameDecoder, check: PageCheck) -> String? {
    decompress(with: decoder, into: validPages, check: check)
  }

  /// As ``decompress(with:check:)``, with the pages in memory of the caller's.
  ///
  /// - Precondition: `destination` has room for exactly `pageCount` pages. It holds anything when
  ///   the chunk is damaged.
  package func decompress(
    with decoder: LZ4FrameDecoder,
    into destination: UnsafeMutableRawBufferPointer,
    check: PageCheck
  ) -> String? {
    precondition(destination.count == pageCount * Page.byteCount)
    let source = UnsafeRawBufferPointer(rebasing: stored[..<storedByteCount])
    var fingerprinter: PageFingerprinter?
    if case .quick(let seed) = check, hasFingerprints { fingerprinter = seed.fingerprinter }
    switch encoding {
    case .lz4:
      do throws(ChunkDamage) {
        let data = try CompressedChunk(source, pageCount: pageCount)
        if let fingerprinter, data.decodeUnchecked(into: destination),
          agrees(destination, fingerprinter)
        {
          return nil
        }
        try data.decode(into: destination, with: decoder)
      } catch {
        return error.description
      }
    case .raw:
      guard source.count == destination.count else { return "its length is wrong" }
      destination.copyMemory(from: source)
      if let fingerprinter, agrees(destination, fingerprinter) { return nil }
    }
    return slotWithoutDigest(UnsafeRawBufferPointer(destination)).map {
      "the page in slot \($0) does not have its SHA-256"
    }
  }

  /// Makes the page in `slot` from the stored form, and of the others no more than that needs: for somebody who waits
  /// for it.
  ///
  /// - Precondition: The chunk has the slot.
  /// - Returns: The page, which has its fingerprint, and is valid until the buffer is used again; `nil` where it cannot
  ///   be made or proved in this way. ``decompress(with:check:)`` finds what is wrong then, if anything is.
  /// - Complexity: O(*n*) in the number of slots up to this one.
  package func decompressPage(
    _ slot: Int,
    _ fingerprinter: PageFingerprinter
  ) -> UnsafeRawBufferPointer? {
    guard hasFingerprints else { return nil }
    let range = (slot * Page.byteCount)..<((slot + 1) * Page.byteCount)
    let source = UnsafeRawBufferPointer(rebasing: stored[..<storedByteCount])
    let page: UnsafeRawBufferPointer
    switch encoding {
    case .lz4:
      let beginning = UnsafeMutableRawBufferPointer(rebasing: pages[..<range.upperBound])
      guard let data = try? CompressedChunk(source, pageCount: pageCount),
        data.decodeBeginning(into: beginning, inOrder: slot..<(slot + 1))
      else { return nil }
      page = self.page(slot)
    case .raw:
      guard source.count == pageCount * Page.byteCount else { return nil }
      page = UnsafeRawBufferPointer(rebasing: source[range])
    }
    let wanted = UnsafeRawBufferPointer(
      rebasing: fingerprints[(slot * PageFingerprinter.byteCount)...]
    )
    return fingerprinter.firstMismatch(page, wanted) == nil ? page : nil
  }

  private func agrees(
    _ pages: UnsafeMutableRawBufferPointer,
    _ fingerprinter: PageFingerprinter
  ) -> Bool {
    fingerprinter.firstMismatch(
      UnsafeRawBufferPointer(pages),
      UnsafeRawBufferPointer(fingerprints)
    ) == nil
  }

  /// The first slot whose page in `pages` does not have its digest.
  private func slotWithoutDigest(_ pages: UnsafeRawBufferPointer) -> Int? {
    (0..<pageCount).first { slot in
      let start = slot * Page.byteCount
      let page = UnsafeRawBufferPointer(rebasing: pages[start..<(start + Page.byteCount)])
      return PageDigest(of: page) != digest(slot)
    }
  }
}
