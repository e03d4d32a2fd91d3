import GRDB

/// Whether chunks that a save would rely on can be read. A row may be lost, or of an encoding that this
/// program does not know. A new snapshot that used it would be damaged from its first moment, although
/// its source is at hand.
///
/// Looks once for each chunk. Only `verify` says whether the data is intact: decoding every chunk
/// would cost more than the save.
struct ChunkDataCheck {
  private let select: HotStatement
  private var results: [Int64: Bool] = [:]
  private var last: (chunkID: Int64, hasData: Bool) = (0, false)

  init(_ database: Database) throws {
    select = try HotStatement(
      database,
      """
      SELECT 1 FROM chunk c JOIN chunk_data d ON d.chunk_id = c.id
       WHERE c.id = ? AND \(ChunkRow.readableCondition)
      """
    )
  }

  mutating func hasData(_ chunkID: Int64) throws -> Bool {
    if chunkID == last.chunkID { return last.hasData }
    let hasData: Bool
    if let known = results[chunkID] {
      hasData = known
    } else {
      select.bind(chunkID, at: 1)
      defer { select.reset() }
      hasData = try select.step()
      results[chunkID] = hasData
    }
    last = (chunkID, hasData)
    return hasData
  }
}
