/// What `stats` tells about a store.
public struct StoreStatistics: Sendable, Codable, Hashable {
  public var path: String
  public var formatVersion: Int
  public var uuid: String
  public var createdAt: String
  public var snapshotCount: UInt64
  public var vmCount: UInt64

  /// The RAM of all snapshots together: what raw files would take.
  public var ramByteCount: UInt64
  /// The pages of all snapshots that are not zero.
  public var nonzeroByteCount: UInt64
  /// The distinct pages in the store, uncompressed.
  public var distinctPageByteCount: UInt64
  /// The distinct pages in the store, compressed.
  public var storedByteCount: UInt64
  public var chunkCount: UInt64
  public var deviceStateByteCount: UInt64
  public var pageIndexEntryCount: UInt64
  public var pageIndexRunCount: UInt64

  /// The store's file.
  public var fileByteCount: UInt64
  /// Space in the file that nothing uses; `gc` returns it.
  public var freeByteCount: UInt64
  /// Snapshots that a save in progress, or one that died, has begun.
  public var unfinishedSnapshotCount: UInt64
}
