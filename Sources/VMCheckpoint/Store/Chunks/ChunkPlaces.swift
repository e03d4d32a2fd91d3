import GRDB

/// Removes what a store knows of the places of chunks in remotes, where it has any: chunks are deleted with SQLite's own
/// check of foreign keys off.
struct ChunkPlaces {
  private let delete: HotStatement?

  init(_ database: Database) throws {
    let hasRemotes = try StoreFormat.features(of: database).contains(.remotes)
    delete =
      try hasRemotes ? HotStatement(database, "DELETE FROM chunk_place WHERE chunk_id = ?") : nil
  }

  func remove(_ chunkID: Int64) throws {
    guard let delete else { return }
    delete.bind(chunkID, at: 1)
    try delete.run()
  }
}
