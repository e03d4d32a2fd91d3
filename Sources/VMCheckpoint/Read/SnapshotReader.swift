import Algorithms
import Synchronization

/// Reads pages of one snapshot at random, from any number of threads at once.
///
/// It has a connection of its own, all extents in memory, and decoded chunks in a ``ChunkCache`` that readers
/// share. Each read checks a page by its fingerprint or its SHA-256, and an extent by its checksum. What is
/// damaged is an error, never zeros.
///
/// No lock of the store is held. Chunks keep their numbers for ever, so what is found under one is right. A
/// chunk that `gc` or `optimize` has moved is not found; then the extents are read anew. When the snapshot
/// itself was deleted, reads of chunks that are gone fail with `notFound`.
public final class SnapshotReader: Sendable {
  /// The snapshot's name.
  public let name: String
  /// The snapshot's UUID.
  public let uuid: String
  /// Where there is RAM.
  public let layout: RAMLayout
  /// The pages whose content is unknown, because a dump left them out. They read as zeros, unless an overlay
  /// covers them.
  public let absent: AbsentPages

  private let store: Store
  private let snapshot: SnapshotRow
  private let seed: StoreSeed
  private let check: ExtentCheck
  private let cache: ChunkCache
  /// What overlays lay over pages, in ascending order of PFN.
  private let patches: [RAMPatch]
  let extents: Mutex<ExtentMap>
  private let chunks: StoredChunks
  let supply: RemoteSupply

  /// Opens a snapshot of the store at `storePath`.
  ///
  /// - Parameters:
  ///   - overlays: Whether pages are what the guest saw, or bare RAM.
  ///   - tscFrequencyHz: As for a restore.
  ///   - cpuVendor: As for a restore.
  ///   - cache: Where decoded chunks are kept; `nil`: ``ChunkCache/shared``.
  /// - Throws: ``VMCheckpointError``: as ``Store/open(at:for:cancellation:)``; `notFound`; `corrupt` when regions,
  ///   extents, overlays or device states are not what was saved; `outOfResources`.
  /// - Complexity: O(*n*) in the number of extents.
  public convenience init(
    storePath: String,
    reference: SnapshotReference,
    overlays treatment: OverlayTreatment = .apply,
    tscFrequencyHz: UInt64? = nil,
    cpuVendor: CPUVendor? = nil,
    cache: ChunkCache? = nil
  ) throws(VMCheckpointError) {
    try self.init(
      storePath: storePath,
      reference: reference,
      overlays: treatment,
      tscFrequencyHz: tscFrequencyHz,
      cpuVendor: cpuVendor,
      cache: cache,
      waitsForRemotes: false,
      control: OperationControl(),
      leavesToVMM: { _ in false }
    )
  }

  /// The same, for a VMM that lays overlays over RAM itself.
  ///
  /// - Parameters:
  ///   - waitsForRemotes: Whether pages that are in a remote only are waited for, for as long as that cannot be reached:
  ///     for a VM, which an error would end.
  ///   - control: Hears what is waited for.
  ///   - leavesToVMM: Whether it does so with an overlay. RAM is bare there.
  init(
    storePath: String,
    reference: SnapshotReference,
    overlays treatment: OverlayTreatment,
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?,
    cache: ChunkCache?,
    waitsForRemotes: Bool,
    control: OperationControl,
    leavesToVMM: (Overlay) -> Bool
  ) throws(VMCheckpointError) {
    let store = try Store.open(at: storePath)
    // A mount has many readers. What SQLite keeps would not be needed again: decoded chunks are in `cache`.
    try store.readOnce { try StoreConnection.readChunksOnly($0) }
    let opened = try store.read { database in
      let snapshot = try SnapshotCatalog.resolve(reference, in: database)
      let layout = try snapshot.layout(database)
      var overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
      let absent = try snapshot.absentPages(database, in: layout)
      try snapshot.requireDigest(layout, absent, overlays, database)
      try overlays.retarget(tscFrequencyHz: tscFrequencyHz, cpuVendor: cpuVendor)
      overlays.leave(to: leavesToVMM)
      return (
        snapshot: snapshot, layout: layout, absent: absent, overlays: overlays,
        seed: try StoreSeed(database),
        extents: try ExtentMap(snapshot, layout, database),
        missing: try Store.missingChunks(of: snapshot, database, control.cancellation)
      )
    }
    self.store = store
    if let cache { self.cache = cache } else { self.cache = try ChunkCache.shared.get() }
    snapshot = opened.snapshot
    name = opened.snapshot.name
    uuid = opened.snapshot.uuid
    layout = opened.layout
    absent = opened.absent
    seed = opened.seed
    check = ExtentCheck(opened.seed, snapshot: opened.snapshot.uuid)
    extents = Mutex(opened.extents)
    chunks = try StoredChunks(store, opened.seed)
    supply = RemoteSupply(
      store,
      opened.seed,
      of: opened.snapshot,
      missing: Set(opened.missing),
      waits: waitsForRemotes,
      control: control
    )
    patches = RAMPatch.patches(for: opened.overlays, treatment: treatment)
  }

  deinit { supply.close() }

  /// What a run of pages is made of.
  public enum Content: Sendable, Hashable {
    /// Every byte is 0.
    case zeros
    /// Stored pages, or pages of overlays.
    case data
    /// Unknown, because a dump left it out. Reads as zeros.
    case absent
    /// No RAM.
    case outside
  }

  /// What the pages from `pfn` on are, and how many of them are alike: for who sends zeros as such, and holes
  /// not at all. An answer may be cut where extents or regions end.
  ///
  /// - Complexity: O(log *n*) in the number of extents and overlays.
  public func content(at pfn: PFN) -> (content: Content, pageCount: UInt64) {
    let pfn = pfn.rawValue
    guard let region = layout.region(holding: PFN(unchecked: pfn)) else {
      let next = layout.regions.map { $0.gpa >> UInt64(Page.shift) }.filter { $0 > pfn }.min()
      return (.outside, (next ?? PFN.max.rawValue + 1) - pfn)
    }
    let regionEnd = region.endGPA >> UInt64(Page.shift)
    let patched = nextPatch(from: pfn)?.pfn.rawValue
    if patched == pfn { return (.data, 1) }
    var end = min(regionEnd, patched ?? .max)
    if let run = absent.run(endingAfter: pfn) {
      if run.contains(pfn) { return (.absent, min(end, run.upperBound) - pfn) }
      end = min(end, run.lowerBound)
    }
    switch extents.withLock({ $0 }).place(of: pfn) {
    case .extent(let extent): return (.data, min(end, extent.endPFN) - pfn)
    case .zeros(let next): return (.zeros, min(end, next) - pfn)
    }
  }

  /// A run of pages that one answer can give.
  package struct Run {
    /// Whether they are stored, or an overlay's; otherwise every byte is 0.
    package var isStored: Bool
    /// The pages. No other run holds one of them.
    package var pfns: Range<UInt64>
  }

  /// The run that holds `pfn`: its extent, an overlay's page, or the zeros around it. Absent pages count as zeros.
  ///
  /// - Precondition: `pfn` is RAM.
  /// - Complexity: As ``content(at:)``.
  package func run(around pfn: PFN) -> Run {
    let map = extents.withLock { $0 }
    let pfn = pfn.rawValue
    if case .extent(let extent) = map.place(of: pfn) {
      return Run(isStored: true, pfns: extent.firstPFN..<extent.endPFN)
    }
    let next = patches.partitioningIndex { $0.pfn.rawValue >= pfn }
    let following = next < patches.count ? patches[next].pfn.rawValue : nil
    if following == pfn { return Run(isStored: true, pfns: pfn..<(pfn + 1)) }
    let gap = map.gap(around: pfn)
    let first = max(gap.lowerBound, next > 0 ? patches[next - 1].pfn.rawValue + 1 : 0)
    let end = min(gap.upperBound, following ?? .max)
    return Run(isStored: false, pfns: first..<end)
  }

  /// Copies pages from `pfn` on into `buffer`.
  ///
  /// - Parameter buffer: Its size is a multiple of 4096.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` where there is no RAM; `corrupt` for damage;
  ///   `notFound` when the snapshot was deleted. The buffer holds anything then.
  public func read(
    from pfn: PFN,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) {
    let pageCount = UInt64(buffer.count / Page.byteCount)
    guard pageCount > 0 else { return }
    let (last, overflows) = pfn.rawValue.addingReportingOverflow(pageCount - 1)
    guard buffer.count % Page.byteCount == 0, !overflows, last <= PFN.max.rawValue,
      layout.isRAM(from: pfn, through: PFN(unchecked: last))
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(pageCount) pages from PFN \(pfn) on are not all RAM of snapshot \(quotedName(name))"
      )
    }
    let end = last + 1
    var next = pfn.rawValue
    while next < end {
      let offset = Int(next - pfn.rawValue) * Page.byteCount
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[offset...])
      next = try fill(rest, from: next, end: end)
    }
    applyPatches(to: buffer, firstPFN: pfn.rawValue, endPFN: end)
  }

  /// Copies a stored page for somebody who waits for it. Of a chunk that is not in the cache, the pages up to this one
  /// are decoded, and none is kept.
  ///
  /// - Parameter buffer: Room for a page.
  /// - Returns: Whether the page is proved to be the right one. If not, ``read(from:into:)`` reads it, or says what is
  ///   wrong.
  package func readAlone(_ pfn: PFN, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard nextPatch(from: pfn.rawValue)?.pfn != pfn,
      case .extent(let extent) = extents.withLock({ $0 }).place(of: pfn.rawValue)
    else { return false }
    let slot = Int(extent.firstSlot) + Int(pfn.rawValue - extent.firstPFN)
    let key = ChunkCache.Key(seed: seed, chunkID: extent.chunkID)
    let isCopied = cache.withChunkIfLoaded(key) { pages, digests in
      let pageCount = pages.count / Page.byteCount
      guard check.problem(of: extent, pageCount: pageCount, digests: digests) == nil else {
        return false
      }
      buffer.copyMemory(
        from: UnsafeRawBufferPointer(
          rebasing: pages[(slot * Page.byteCount)...].prefix(Page.byteCount)
        )
      )
      return true
    }
    if let isCopied { return isCopied }
    // One that has come from a remote is in memory: the store may be locked while it is written.
    guard supply.chunk(extent.chunkID) == nil else { return false }
    let isRead = try? chunks.copyPage(extent.chunkID, slot: slot, to: buffer) { chunk in
      check.problem(of: extent, in: chunk) == nil
    }
    return isRead ?? false
  }

  private func applyPatches(
    to buffer: UnsafeMutableRawBufferPointer,
    firstPFN: UInt64,
    endPFN: UInt64
  ) {
    var next = firstPFN
    while let patch = nextPatch(from: next), patch.pfn.rawValue < endPFN {
      let offset = Int(patch.pfn.rawValue - firstPFN) * Page.byteCount
      patch.withBytes { bytes in
        UnsafeMutableRawBufferPointer(rebasing: buffer[offset...]).copyMemory(from: bytes)
      }
      next = patch.pfn.rawValue + 1
    }
  }

  private func nextPatch(from pfn: UInt64) -> RAMPatch? {
    let index = patches.partitioningIndex { $0.pfn.rawValue >= pfn }
    return index < patches.count ? patches[index] : nil
  }

  /// Fills the beginning of `buffer` with the pages of one extent, or of one gap between extents.
  ///
  /// - Returns: The PFN that comes next.
  private func fill(
    _ buffer: UnsafeMutableRawBufferPointer,
    from pfn: UInt64,
    end: UInt64
  ) throws(VMCheckpointError) -> UInt64 {
    let map = extents.withLock { $0 }
    if let next = try fill(buffer, from: pfn, end: end, map) { return next }
    // `gc` or `optimize` has moved the pages, or they went with the snapshot.
    if let next = try fill(buffer, from: pfn, end: end, reloadExtents(insteadOf: map)) {
      return next
    }
    throw .corrupt("\(snapshot.title) is damaged: a chunk is missing, at PFN \(hexString(pfn))")
  }

  /// - Returns: `nil` when the extent's chunk is not there.
  private func fill(
    _ buffer: UnsafeMutableRawBufferPointer,
    from pfn: UInt64,
    end: UInt64,
    _ map: ExtentMap
  ) throws(VMCheckpointError) -> UInt64? {
    func memory(upTo end: UInt64) -> UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(rebasing: buffer[..<(Int(end - pfn) * Page.byteCount)])
    }
    switch map.place(of: pfn) {
    case .zeros(let gapEnd):
      let next = min(end, gapEnd)
      memory(upTo: next).initializeMemory(as: UInt8.self, repeating: 0)
      return next
    case .extent(let extent):
      let next = min(end, extent.endPFN)
      let slot = Int(extent.firstSlot) + Int(pfn - extent.firstPFN)
      return try copy(extent, from: slot, to: memory(upTo: next)) ? next : nil
    }
  }

  /// Copies pages of an extent's chunk.
  ///
  /// - Returns: `false` when the chunk is not there.
  private func copy(
    _ extent: Extent,
    from slot: Int,
    to destination: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Bool {
    let key = ChunkCache.Key(seed: seed, chunkID: extent.chunkID)
    var problem: String?
    // What the cache holds may be of a copy of the store, which has other chunks under its numbers.
    var isBrought = false
    for _ in 0..<3 {
      do {
        problem = try cache.withChunk(key) { slot in
          try chunks.load(extent.chunkID, into: slot, brought: supply.chunk(extent.chunkID))
        } _: { pages, digests in
          let pageCount = pages.count / Page.byteCount
          if let problem = check.problem(of: extent, pageCount: pageCount, digests: digests) {
            return problem
          }
          destination.copyMemory(
            from: UnsafeRawBufferPointer(
              rebasing: pages[(slot * Page.byteCount)...].prefix(destination.count)
            )
          )
          return nil
        }
      } catch StoredChunks.Failure.missing {
        // It may be in a remote only.
        guard !isBrought, try supply.bring(extent.chunkID) else { return false }
        isBrought = true
        continue
      } catch StoredChunks.Failure.damaged(let damage) {
        problem = damage
      } catch let error as VMCheckpointError {
        throw error
      } catch {
        throw VMCheckpointError(.inputOutput, "\(error)")
      }
      guard problem != nil else { return true }
      cache.remove(key)
    }
    throw .corrupt(
      "\(snapshot.title) is damaged: chunk \(extent.chunkID), at PFN "
        + "\(hexString(extent.firstPFN)): \(problem ?? "")"
    )
  }

  /// Reads the extents again, unless another thread has just done so.
  private func reloadExtents(insteadOf old: ExtentMap) throws(VMCheckpointError) -> ExtentMap {
    let current = extents.withLock { $0 }
    guard current === old else { return current }
    let new = try store.read { database in
      guard let found = try SnapshotCatalog.fetch(id: snapshot.id, in: database),
        found.uuid == snapshot.uuid
      else {
        throw VMCheckpointError(.notFound, "\(snapshot.title) was deleted in the meantime")
      }
      return try ExtentMap(snapshot, layout, database)
    }
    extents.withLock { $0 = new }
    return new
  }
}
