import GRDB
import Synchronization

/// The parent snapshot's pages: the first place to look for a page's content, because most of a
/// VM's pages stay as they were.
///
/// The coordinator reads them ahead of the windows, in order of PFN, while no commit is under way.
/// Workers compare windows with them by fingerprint. For pages that did not change, workers spare
/// themselves SHA-256, and the coordinator the look-up.
///
/// ```
///  PFN ──▶  dropped │ blocks in the ring: pages of windows under way, and ahead │ not loaded yet
///                   ▲ drop(below:)                                             ▲ loadedEndPFN
/// ```
/// A worker whose window ends beyond what is loaded does without: a digest finds the page as well.
/// Memory is fixed, whatever the guest's size.
final class ParentPages: @unchecked Sendable {
  /// PFNs in a block, as in a window.
  private static let blockPageCount = RAMWindow.pageCapacity
  /// 64 MiB of guest memory, twice what windows can be under way with: 0.8 MB.
  private static let blockCapacity = 64

  private let select: HotStatement
  private let digests: UnsafeMutablePointer<PageDigest>
  private let fingerprints: UnsafeMutablePointer<UInt64>
  /// 0: the parent's page is zero, or no RAM, or its chunk has lost its data.
  private let locations: UnsafeMutablePointer<UInt64>
  /// All three.
  private let memory: UnsafeMutableRawBufferPointer

  /// What threads share; the blocks before `nextBlock` are not written any more.
  private struct Ring {
    /// The first PFN of each block that is in the ring, ascending; block *n* is in the slot
    /// `n % blockCapacity`.
    var blockPFNs = [UInt64](repeating: 0, count: ParentPages.blockCapacity)
    var firstBlock = 0
    var nextBlock = 0
    /// Every page of the parent below it is in the ring or was dropped.
    var loadedEndPFN: UInt64 = 0
  }

  private let ring = Mutex(Ring())

  init(_ database: Database, snapshotID: Int64) throws {
    // An extent may name a chunk that a broken disk has lost, or that cannot be read: its pages are stored
    // anew.
    select = try HotStatement(
      database,
      """
      SELECT e.first_pfn, e.page_count, e.chunk_id, e.first_slot, e.checksum,
             c.digests, c.fingerprints
        FROM ram_extent e JOIN chunk c ON c.id = e.chunk_id
       WHERE e.snapshot_id = ?1 AND e.first_pfn >= ?2
             AND EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = e.chunk_id)
             AND \(ChunkRow.readableCondition)
       ORDER BY e.first_pfn
      """
    )
    select.bind(snapshotID, at: 1)
    let capacity = Self.blockCapacity * Self.blockPageCount
    let digestsByteCount = capacity * MemoryLayout<PageDigest>.stride
    let numbersByteCount = capacity * MemoryLayout<UInt64>.stride
    memory = try LargeMemory.allocate(byteCount: digestsByteCount + 2 * numbersByteCount)
    let base = memory.baseAddress!
    digests = base.initializeMemory(
      as: PageDigest.self,
      repeating: PageDigest(words: (0, 0, 0, 0)),
      count: capacity
    )
    fingerprints = (base + digestsByteCount)
      .initializeMemory(as: UInt64.self, repeating: 0, count: capacity)
    locations = (base + digestsByteCount + numbersByteCount)
      .initializeMemory(as: UInt64.self, repeating: 0, count: capacity)
  }

  deinit { LargeMemory.free(memory) }

  // MARK: Workers

  /// Notes in `window` which of its pages are the parent's, with their places and digests. Of those that
  /// are as they were seen, that is known: the parent is what was seen.
  ///
  /// - Returns: Whether all of the parent's pages at these PFNs were compared; else none was.
  func match(_ window: RAMWindow, _ fingerprinter: PageFingerprinter) -> Bool {
    guard copyCandidates(to: window) else { return false }
    let base = UnsafeRawPointer(window.bytes.baseAddress!)
    for index in 0..<window.pageCount where window.knownLocations[index] != 0 {
      guard !window.isAsSeen[index] else { continue }
      if window.isZero[index]
        || fingerprinter.fingerprint(of: base + index * Page.byteCount)
          != window.parentFingerprints[index]
      {
        window.knownLocations[index] = 0
      }
    }
    return true
  }

  /// As ``match(_:_:)``, by digest: for a window that was scanned before its parent's pages were
  /// loaded.
  func matchDigests(_ window: RAMWindow) {
    ring.withLock { ring in
      forEachPage(of: window, in: ring) { index, page in
        guard locations[page] != 0, !window.isZero[index] else { return }
        if window.isAsSeen[index] {
          window.digests[index] = digests[page]
        } else if digests[page] != window.digests[index] {
          return
        }
        window.knownLocations[index] = locations[page]
      }
    }
  }

  private func copyCandidates(to window: RAMWindow) -> Bool {
    ring.withLock { ring in
      guard window.endPFN <= ring.loadedEndPFN else { return false }
      forEachPage(of: window, in: ring) { index, page in
        window.knownLocations[index] = locations[page]
        window.parentFingerprints[index] = fingerprints[page]
        window.digests[index] = digests[page]
      }
      return true
    }
  }

  @inline(__always)
  private func forEachPage(of window: RAMWindow, in ring: Ring, _ body: (Int, Int) -> Void) {
    for block in ring.firstBlock..<ring.nextBlock {
      let blockPFN = ring.blockPFNs[block % Self.blockCapacity]
      let start = max(window.firstPFN, blockPFN)
      let end = min(window.endPFN, blockPFN + UInt64(Self.blockPageCount))
      guard start < end else { continue }
      let page = (block % Self.blockCapacity) * Self.blockPageCount + Int(start - blockPFN)
      let index = Int(start - window.firstPFN)
      for offset in 0..<Int(end - start) { body(index + offset, page + offset) }
    }
  }

  // MARK: Coordinator

  /// Whether the parent's pages up to `endPFN` are in the ring.
  func isLoaded(through endPFN: UInt64) -> Bool {
    ring.withLock { endPFN <= $0.loadedEndPFN }
  }

  /// Drops the pages below `pfn`: no window will come there any more.
  func drop(below pfn: UInt64) {
    ring.withLock { ring in
      while ring.firstBlock < ring.nextBlock,
        ring.blockPFNs[ring.firstBlock % Self.blockCapacity] + UInt64(Self.blockPageCount) <= pfn
      {
        ring.firstBlock += 1
      }
      // Pages that were not loaded yet are dropped as well.
      if ring.firstBlock == ring.nextBlock {
        ring.loadedEndPFN = max(ring.loadedEndPFN, pfn - pfn % UInt64(Self.blockPageCount))
      }
    }
  }

  /// Whether ``loadAhead()`` has something to do that is worth a query.
  var isLow: Bool {
    ring.withLock {
      $0.loadedEndPFN != .max && ($0.nextBlock - $0.firstBlock) * 4 <= Self.blockCapacity * 3
    }
  }

  /// Reads the database until the ring is full or the parent ends.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for extents that are impossible, or
  ///   `DatabaseError`.
  func loadAhead() throws {
    let (start, first) = ring.withLock { ($0, $0.loadedEndPFN) }
    guard first != .max else { return }
    var loading = start
    // An extent that begins up to 15 pages before may reach beyond.
    let reach = UInt64(ExtentQuery.reach)
    select.bind(Int64(clamping: first < reach ? 0 : first - reach), at: 2)
    defer { select.reset() }
    loading.loadedEndPFN = .max
    var nextFreePFN: UInt64 = 0
    while try select.step() {
      let extent = try Extent(select)
      guard extent.firstPFN >= nextFreePFN else {
        throw Extent.damaged(firstPFN: Int64(extent.firstPFN))
      }
      nextFreePFN = extent.endPFN
      if let fullPFN = load(extent, from: first, into: &loading) {
        loading.loadedEndPFN = fullPFN
        break
      }
    }
    let loaded = loading
    ring.withLock { ring in
      // Nobody else changes it.
      ring = loaded
    }
  }

  /// Puts the pages of `extent` that are not below `first` into blocks of the ring, the row of the
  /// extent being current.
  ///
  /// - Returns: The PFN up to which all is loaded, when there was no room for the rest.
  private func load(_ extent: Extent, from first: UInt64, into loading: inout Ring) -> UInt64? {
    select.withBlob(5) { digestBlob in
      select.withBlob(6) { fingerprintBlob in
        for index in 0..<Int(extent.pageCount) {
          let pfn = extent.firstPFN + UInt64(index)
          guard pfn >= first else { continue }
          let blockPFN = pfn - pfn % UInt64(Self.blockPageCount)
          if loading.nextBlock == loading.firstBlock
            || loading.blockPFNs[(loading.nextBlock - 1) % Self.blockCapacity] != blockPFN
          {
            guard loading.nextBlock - loading.firstBlock < Self.blockCapacity else {
              return blockPFN
            }
            let slot = loading.nextBlock % Self.blockCapacity
            loading.blockPFNs[slot] = blockPFN
            (locations + slot * Self.blockPageCount)
              .update(repeating: 0, count: Self.blockPageCount)
            loading.nextBlock += 1
          }
          let slot = Int(extent.firstSlot) + index
          guard (slot + 1) * PageDigest.byteCount <= digestBlob.count,
            (slot + 1) * PageFingerprinter.byteCount <= fingerprintBlob.count
          else { continue }
          let page =
            ((loading.nextBlock - 1) % Self.blockCapacity) * Self.blockPageCount
            + Int(pfn - blockPFN)
          digests[page] = PageDigest(
            loadingFrom: digestBlob.baseAddress! + slot * PageDigest.byteCount
          )
          fingerprints[page] = UInt64(
            littleEndian: fingerprintBlob.loadUnaligned(
              fromByteOffset: slot * PageFingerprinter.byteCount,
              as: UInt64.self
            )
          )
          locations[page] = extent.location(at: index).packed
        }
        return nil
      }
    }
  }
}
