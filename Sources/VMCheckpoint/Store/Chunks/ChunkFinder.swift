package import GRDB

/// Reads chunks by what they hold: the reading twin of ``ChunkWriter``. What leaves a store for another is
/// asked for by digests, since a chunk's number means nothing there.
package struct ChunkFinder {
  private let index: PageIndex
  private let reader: ChunkReader

  /// Loads the page index of the store on `database`.
  ///
  /// - Throws: ``VMCheckpointError``, or `DatabaseError`.
  package init(_ database: Database) throws {
    index = try PageIndex(database)
    reader = try ChunkReader(database)
  }

  /// Loads the stored form of a chunk that holds the page with `digest`, and all its digests, into `buffer`.
  /// The data is as the store has it: ``ChunkBuffer/decompress(with:check:)`` proves it.
  ///
  /// - Returns: The page's slot in the chunk; `nil` when the store has no such page.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for a chunk that cannot be loaded, or
  ///   `DatabaseError`.
  package func load(holding digest: PageDigest, into buffer: ChunkBuffer) throws -> Int? {
    guard let location = try index.location(of: digest) else { return nil }
    if let problem = try reader.load(location.chunkID, into: buffer) {
      throw VMCheckpointError.corrupt("chunk \(location.chunkID): \(problem)")
    }
    return location.slot
  }
}
