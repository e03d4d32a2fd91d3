/// The counts and sizes that `stats` reports about a store.
public struct StoreStatistics: Sendable, Codable, Hashable {
  /// The path that the store was opened at.
  public var path: String
  /// The store format's version.
  public var formatVersion: Int
  /// What the store has beyond that version, by name.
  public var features: [String]
  /// The store's UUID.
  public var uuid: String
  /// ISO 8601, UTC.
  public var createdAt: String
  /// Complete snapshots.
  public var snapshotCount: UInt64
  /// VMs that have a snapshot.
  public var vmCount: UInt64

  /// The RAM of all snapshots together: what raw files would take.
  public var ramByteCount: UInt64
  /// The pages of all snapshots that are not zero.
  public var nonzeroByteCount: UInt64
  /// The distinct pages in the store, uncompressed.
  public var distinctPageByteCount: UInt64
  /// The distinct pages in the store, compressed.
  public var storedByteCount: UInt64
  /// Chunks.
  public var chunkCount: UInt64
  /// Device states, compressed.
  public var deviceStateByteCount: UInt64
  /// Entries of the page index.
  public var pageIndexEntryCount: UInt64
  /// Sorted runs of the page index; each costs lookups.
  public var pageIndexRunCount: UInt64

  /// The store's file.
  public var fileByteCount: UInt64
  /// Space in the file that nothing uses; `gc` returns it.
  public var freeByteCount: UInt64
  /// What the file system keeps for the store, so that `delete`, `prune` and `gc` work on a full disk.
  public var reserveByteCount: UInt64
  /// Snapshots that a save in progress, or one that died, has begun.
  public var unfinishedSnapshotCount: UInt64
}
