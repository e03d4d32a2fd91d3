/// Up to 1 MiB of consecutive guest pages on their way through a save: the unit in which RAM is
/// read, scanned, compared with the parent's and hashed. Never crosses a memory region's border.
///
/// The memory is allocated once and used for one window after another. Handed from thread to
/// thread; the thread that has it uses it alone.
package final class RAMWindow: @unchecked Sendable {
  /// 256 pages: long enough that handing over costs nothing against 0.2 ms or more of work.
  package static let pageCapacity = 256

  package let bytes: UnsafeMutableRawBufferPointer
  /// The digest of each page that is not zero; others are left as they were.
  package let digests: UnsafeMutablePointer<PageDigest>
  package let isZero: UnsafeMutablePointer<Bool>
  /// Pages that ``ParentPages`` has, and whose bytes are not here: of a window that ``isSettled``.
  package let isAsSeen: UnsafeMutablePointer<Bool>
  /// Where pages are stored that ``ParentPages`` has found unchanged, packed; 0 for others. Their
  /// digests are the parent's.
  package let knownLocations: UnsafeMutablePointer<UInt64>
  /// What ``ParentPages`` compares with.
  package let parentFingerprints: UnsafeMutablePointer<UInt64>
  /// All of the above.
  private let memory: UnsafeMutableRawBufferPointer
  /// Whether the parent's pages were compared with these.
  package var isMatched = false
  /// Whether ``SettledPages`` has filled it, and zero pages are known.
  package var isSettled = false

  /// Windows count from 0 in ascending order of PFN.
  package var sequence = 0
  package var firstPFN: UInt64 = 0
  package var pageCount = 0
  /// How far into the source's bytes the window reaches, for progress.
  package var sourceEndOffset: UInt64 = 0

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package init() throws(VMCheckpointError) {
    let count = Self.pageCapacity
    let pageByteCount = count * Page.byteCount
    let perPage =
      MemoryLayout<PageDigest>.stride + 2 * MemoryLayout<UInt64>.stride
      + 2 * MemoryLayout<Bool>.stride
    let memory = try LargeMemory.allocate(byteCount: pageByteCount + count * perPage)
    self.memory = memory
    bytes = UnsafeMutableRawBufferPointer(rebasing: memory[..<pageByteCount])
    var rest = memory.baseAddress! + pageByteCount
    // The largest come first, so that each is aligned.
    func take<Value>(_ value: Value) -> UnsafeMutablePointer<Value> {
      let values = rest.initializeMemory(as: Value.self, repeating: value, count: count)
      rest += count * MemoryLayout<Value>.stride
      return values
    }
    digests = take(PageDigest(words: (0, 0, 0, 0)))
    knownLocations = take(UInt64(0))
    parentFingerprints = take(UInt64(0))
    isZero = take(true)
    isAsSeen = take(false)
  }

  deinit { LargeMemory.free(memory) }

  package var endPFN: UInt64 { firstPFN + UInt64(pageCount) }

  /// The page at `index`, counted from the window's first.
  package func page(_ index: Int) -> UnsafeMutableRawBufferPointer {
    let start = index * Page.byteCount
    return UnsafeMutableRawBufferPointer(rebasing: bytes[start..<(start + Page.byteCount)])
  }

  /// Finds zero pages; of the others it is not known yet where they are stored.
  package func findZeroPages() {
    let base = UnsafeRawPointer(bytes.baseAddress!)
    if !isSettled {
      for index in 0..<pageCount {
        isZero[index] = ZeroPage.isZero(base + index * Page.byteCount)
      }
    }
    knownLocations.update(repeating: 0, count: Self.pageCapacity)
    isMatched = false
  }

  /// Computes the digests of the pages that are here, and neither zero nor known.
  ///
  /// - Returns: How many those are.
  package func computeDigests() -> Int {
    let base = UnsafeRawPointer(bytes.baseAddress!)
    var count = 0
    for index in 0..<pageCount
    where !isZero[index] && knownLocations[index] == 0 && !isAsSeen[index] {
      digests[index] = PageDigest(
        of: UnsafeRawBufferPointer(start: base + index * Page.byteCount, count: Page.byteCount)
      )
      count += 1
    }
    return count
  }
}
