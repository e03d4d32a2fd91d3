import GRDB

/// Whether chunks have a row of data, whatever their own rows say. One without may be in a remote only.
struct ChunkPresence {
  private let select: HotStatement

  init(_ database: Database) throws {
    select = try HotStatement(database, "SELECT 1 FROM chunk_data WHERE chunk_id = ?")
  }

  func hasData(_ chunkID: Int64) throws -> Bool {
    select.bind(chunkID, at: 1)
    defer { select.reset() }
    return try select.step()
  }

  /// The chunks whose data is in remotes only, ascending; none where the store has no remotes.
  static func onlyInRemotes(_ database: Database) throws -> Set<Int64> {
    guard try StoreFormat.features(of: database).contains(.remotes) else { return [] }
    return try Set(
      Int64.fetchAll(
        database,
        sql: """
          SELECT DISTINCT p.chunk_id FROM chunk_place p
           WHERE NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = p.chunk_id)
          """
      )
    )
  }
}
