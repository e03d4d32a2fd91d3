/// Answers the faults of VMs with the pages of one snapshot.
///
/// What it promises, and how, is the DocC article "Serving pages". All extents are in memory, and proved, before
/// the first answer: without that no page could be called zero. Decoded chunks are in a cache of bounded size.
/// No lock of the store is held: a chunk that `gc` or `optimize` has moved is not found under its number, which
/// is never given again, and then the extents are read anew.
///
/// Thread-safe. VMs may share one.
public final class PageServer: Sendable {
  /// Room for decoded chunks: 256 of them.
  public static let defaultCacheByteCount = 16 << 20

  /// The snapshot whose pages are served.
  public let reader: SnapshotReader

  private let cache: ChunkCache
  let counter = ServeCounter()

  /// Opens a snapshot of the store at `storePath`.
  ///
  /// - Parameters:
  ///   - overlays: Whether pages are what the guest saw, or bare RAM.
  ///   - tscFrequencyHz: As for a restore.
  ///   - cpuVendor: As for a restore.
  ///   - cacheByteCount: Room for decoded chunks.
  /// - Throws: ``VMCheckpointError`` as ``SnapshotReader/init(storePath:reference:overlays:tscFrequencyHz:cpuVendor:cache:)``.
  /// - Complexity: O(*n*) in the number of extents.
  public convenience init(
    storePath: String,
    reference: SnapshotReference,
    overlays: OverlayTreatment = .apply,
    tscFrequencyHz: UInt64? = nil,
    cpuVendor: CPUVendor? = nil,
    cacheByteCount: Int = PageServer.defaultCacheByteCount
  ) throws(VMCheckpointError) {
    try self.init(
      storePath: storePath,
      reference: reference,
      overlays: overlays,
      tscFrequencyHz: tscFrequencyHz,
      cpuVendor: cpuVendor,
      cacheByteCount: cacheByteCount,
      control: OperationControl(),
      leavesToVMM: { _ in false }
    )
  }

  /// The same, for a VMM that lays overlays over RAM itself.
  ///
  /// - Parameters:
  ///   - control: Hears what is waited for, where pages are in remotes.
  ///   - leavesToVMM: Whether it does so with an overlay. RAM is bare there.
  package init(
    storePath: String,
    reference: SnapshotReference,
    overlays: OverlayTreatment,
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?,
    cacheByteCount: Int = PageServer.defaultCacheByteCount,
    control: OperationControl,
    leavesToVMM: (Overlay) -> Bool
  ) throws(VMCheckpointError) {
    let cache = try ChunkCache(byteCapacity: cacheByteCount)
    self.cache = cache
    reader = try SnapshotReader(
      storePath: storePath,
      reference: reference,
      overlays: overlays,
      tscFrequencyHz: tscFrequencyHz,
      cpuVendor: cpuVendor,
      cache: cache,
      waitsForRemotes: true,
      control: control,
      leavesToVMM: leavesToVMM
    )
    // A VM would wait for what nobody may bring.
    try reader.requireRemotes()
  }

  /// Gets the cache's memory, so that no page fault comes in the way of an answer: some milliseconds.
  public func populate() { cache.populate() }

  /// What was done so far.
  public var counts: ServeCounts {
    var counts = counter.counts
    counts.decodedChunkCount = cache.decodedChunkCount
    let brought = reader.supply.counts
    counts.remoteChunkCount = brought.chunkCount
    counts.remoteByteCount = brought.byteCount
    counts.remoteWaitCount = brought.waitCount
    counts.remoteWaitSeconds = brought.waitSeconds
    return counts
  }
}
