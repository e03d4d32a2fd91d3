import GRDB

/// Reads digests and keeps those of the chunk that it read last.
struct DigestBlobs {
  private let reader: DigestReader
  private var chunkID: Int64 = 0
  private var slots: [PageDigest] = []

  init(_ database: Database) throws {
    reader = try DigestReader(database)
  }

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when there is no such slot.
  mutating func digest(at location: PageLocation) throws -> PageDigest {
    if location.chunkID != chunkID {
      slots = try reader.all(location.chunkID)
      chunkID = location.chunkID
    }
    guard location.slot < slots.count else {
      throw VMCheckpointError(
        .corrupt,
        "chunk \(location.chunkID) has no slot \(location.slot)",
        hint: "see what is hurt with: vmckpt verify"
      )
    }
    return slots[location.slot]
  }
}
