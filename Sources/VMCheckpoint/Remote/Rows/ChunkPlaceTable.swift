import GRDB

/// Where the chunks of a store are in one remote, for loops over many of them: statements that are prepared once.
struct ChunkPlaceTable {
  /// Where a chunk is in the remote.
  struct Place {
    var pack: RemoteID
    var entry: Int
  }

  private let remoteID: Int64
  private let selectPlace: HotStatement
  private let selectChunk: HotStatement
  private let insertPlace: HotStatement

  init(_ database: Database, remoteID: Int64) throws {
    self.remoteID = remoteID
    selectPlace = try HotStatement(
      database,
      """
      SELECT p.name, c.entry FROM chunk_place c JOIN remote_pack p ON p.id = c.pack_id
       WHERE c.chunk_id = ? AND p.remote_id = ? ORDER BY p.id LIMIT 1
      """
    )
    selectChunk = try HotStatement(
      database,
      "SELECT chunk_id FROM chunk_place WHERE pack_id = ? AND entry = ?"
    )
    insertPlace = try HotStatement(
      database,
      "INSERT OR IGNORE INTO chunk_place (chunk_id, pack_id, entry, offset) VALUES (?, ?, ?, ?)"
    )
  }

  /// Where a chunk is, if the store knows a place.
  func place(ofChunk chunkID: Int64) throws -> Place? {
    selectPlace.bind(chunkID, at: 1)
    selectPlace.bind(remoteID, at: 2)
    defer { selectPlace.reset() }
    guard try selectPlace.step() else { return nil }
    let name = try selectPlace.text(0, maximumByteCount: 2 * RemoteID.byteCount)
    guard let pack = RemoteID(name) else { return nil }
    return Place(pack: pack, entry: Int(clamping: try selectPlace.integer(1)))
  }

  /// The chunk that a place in a pack belongs to.
  func chunk(inPack packID: Int64, entry: Int) throws -> Int64? {
    selectChunk.bind(packID, at: 1)
    selectChunk.bind(Int64(entry), at: 2)
    defer { selectChunk.reset() }
    return try selectChunk.step() ? try selectChunk.integer(0) : nil
  }

  /// Notes where a chunk is. One that has a place in the pack already keeps it.
  func insert(_ chunkID: Int64, inPack packID: Int64, entry: Int, offset: UInt64) throws {
    insertPlace.bind(chunkID, at: 1)
    insertPlace.bind(packID, at: 2)
    insertPlace.bind(Int64(entry), at: 3)
    insertPlace.bind(Int64(clamping: offset), at: 4)
    try insertPlace.run()
  }
}
