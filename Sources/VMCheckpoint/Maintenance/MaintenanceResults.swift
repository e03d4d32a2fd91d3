/// What `delete` did.
public struct DeleteResult: Sendable, Codable, Hashable {
  /// The names of the deleted snapshots.
  public var deleted: [String]

  /// `nil` when other operations held the store, so that freeing was left to `gc`.
  public var collected: CollectResult?
}

/// What `gc` freed, or would free.
public struct CollectResult: Sendable, Codable, Hashable {
  /// Whether nothing was changed.
  public var dryRun: Bool

  /// Snapshots that were begun and never completed.
  public var unfinishedSnapshotCount: UInt64

  /// Chunks that no snapshot names.
  public var freedChunkCount: UInt64
  /// The pages in them.
  public var freedPageCount: UInt64
  /// Their compressed bytes.
  public var freedStoredByteCount: UInt64

  /// Chunks of which less than half was alive, packed anew.
  public var repackedChunkCount: UInt64
  /// What repacking freed; 0 in a dry run, which cannot know.
  public var repackedStoredByteCount: UInt64

  /// The store file's size at the start.
  public var fileByteCountBefore: UInt64
  /// The store file's size afterwards; in a dry run about what it would be.
  public var fileByteCountAfter: UInt64
}

/// What `backup` made.
public struct BackupResult: Sendable, Codable, Hashable {
  /// The size of the copy.
  public var fileByteCount: UInt64
  /// The complete snapshots in it.
  public var snapshotCount: UInt64
  /// Whether the copy was verified before it got its name.
  public var isVerified: Bool
  /// Wall time, waiting for other operations included.
  public var durationSeconds: Double
}

/// What `verify` found.
public struct VerifyReport: Sendable, Codable, Hashable {
  /// One damaged thing.
  public struct Problem: Sendable, Codable, Hashable {
    /// What is damaged: `database`, `chunk 17`, `snapshot nightly`, `page index`.
    public var subject: String
    /// What is wrong with it.
    public var message: String
    /// The snapshots that it hurts, in the order of their saving.
    public var victims: [Victim]
  }

  /// A snapshot that a problem hurts.
  public struct Victim: Sendable, Codable, Hashable {
    /// The snapshot's name.
    public var snapshot: String
    /// The pages of it that are hurt; none when the problem is not one of pages.
    public var pages: [PageRange]
  }

  /// The part of the store that was checked.
  public var part: StorePart
  /// Snapshots that were checked.
  public var snapshotCount: UInt64
  /// Chunks that were decoded.
  public var chunkCount: UInt64
  /// Pages whose SHA-256 was recomputed.
  public var pageCount: UInt64
  /// Compressed bytes of the chunks that were checked.
  public var storedByteCount: UInt64
  /// Chunks whose data is in a remote only, and was not checked.
  public var remoteChunkCount: UInt64

  /// At most ``maximumProblemCount``.
  public var problems: [Problem]

  /// How many there were in all.
  public var problemCount: UInt64

  /// The names of the snapshots that are hurt.
  public var damagedSnapshots: [String]

  /// Wall time.
  public var durationSeconds: Double

  /// More problems than this are counted, not listed.
  public static let maximumProblemCount = 1000

  /// Whether nothing is damaged.
  public var isSound: Bool { problemCount == 0 }
}
