import GRDB

/// Where chunks are in remotes, and which ranges of packs bring many of them.
struct SupplyPlan {
  /// What a range brings at most when nobody waits for it: more would hold up who does.
  static let rangeByteLimit = 1 << 20

  /// A chunk's place in a pack.
  struct Chunk {
    var id: Int64
    var offset: UInt64
    var storedByteCount: Int

    var end: UInt64 { offset + UInt64(storedByteCount) }
  }

  /// Chunks of one pack, in the order of their places.
  struct Range {
    var remoteID: Int64
    var pack: RemoteID
    /// The pack's row.
    var packRow: Int64
    var chunks: [Chunk]
  }

  private let database: Database
  private let select: HotStatement
  private var packs: [Int64: (remoteID: Int64, pack: RemoteID)?] = [:]

  init(_ database: Database) throws {
    self.database = database
    select = try HotStatement(
      database,
      """
      SELECT c.pack_id, c.offset, k.stored_bytes
        FROM chunk_place c JOIN chunk k ON k.id = c.chunk_id
       WHERE c.chunk_id = ? ORDER BY c.pack_id LIMIT 1
      """
    )
  }

  /// A range of one chunk; `nil` when the chunk is gone, or in no remote.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for an impossible length; `DatabaseError`.
  mutating func place(of chunkID: Int64) throws -> Range? {
    select.bind(chunkID, at: 1)
    defer { select.reset() }
    guard try select.step() else { return nil }
    let packRow = select.int64(0)
    guard let found = try pack(packRow) else { return nil }
    let chunk = Chunk(
      id: chunkID,
      offset: UInt64(clamping: select.int64(1)),
      storedByteCount: Int(clamping: select.int64(2))
    )
    guard (1...ChunkFormat.maximumStoredByteCount).contains(chunk.storedByteCount) else {
      throw VMCheckpointError.corrupt("chunk \(chunkID): its length is impossible")
    }
    return Range(remoteID: found.remoteID, pack: found.pack, packRow: packRow, chunks: [chunk])
  }

  /// The ranges that bring all of `chunkIDs` which have a place, over gaps that cost less than another request. Those come
  /// first that begin first in `chunkIDs`.
  ///
  /// - Throws: As ``place(of:)``.
  mutating func ranges(of chunkIDs: [Int64]) throws -> [Range] {
    var places: [(order: Int, range: Range)] = []
    places.reserveCapacity(chunkIDs.count)
    for (order, chunkID) in chunkIDs.enumerated() {
      if let range = try place(of: chunkID) { places.append((order, range)) }
    }
    places.sort {
      ($0.range.packRow, $0.range.chunks[0].offset) < ($1.range.packRow, $1.range.chunks[0].offset)
    }
    var ranges: [(order: Int, range: Range)] = []
    for (order, next) in places {
      if let last = ranges.last?.range, last.packRow == next.packRow {
        let (first, end, chunk) = (last.chunks[0], last.chunks.last!.end, next.chunks[0])
        if chunk.offset >= end, chunk.offset - end <= UInt64(ChunkRange.gapByteLimit),
          chunk.end - first.offset <= UInt64(Self.rangeByteLimit)
        {
          let index = ranges.count - 1
          ranges[index].range.chunks.append(chunk)
          ranges[index].order = min(ranges[index].order, order)
          continue
        }
      }
      ranges.append((order, next))
    }
    ranges.sort { $0.order < $1.order }
    return ranges.map(\.range)
  }

  /// Chunks behind the one of `range` in its pack that are not here either, added as far as `byteCount` bytes reach.
  func extended(_ range: Range, byteCount: Int) throws -> Range {
    let first = range.chunks[0]
    let rows = try Row.fetchAll(
      try database.cachedStatement(
        sql: """
          SELECT c.chunk_id, c.offset, k.stored_bytes
            FROM chunk_place c JOIN chunk k ON k.id = c.chunk_id
           WHERE c.pack_id = ?1 AND c.offset > ?2 AND c.offset + k.stored_bytes <= ?2 + ?3
             AND NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = c.chunk_id)
           ORDER BY c.offset
          """
      ),
      arguments: [range.packRow, Int64(clamping: first.offset), byteCount]
    )
    var range = range
    for row in rows {
      let chunk = Chunk(
        id: try row.value(at: 0),
        offset: UInt64(clamping: try row.value(at: 1) as Int64),
        storedByteCount: Int(clamping: try row.value(at: 2) as Int64)
      )
      guard (1...ChunkFormat.maximumStoredByteCount).contains(chunk.storedByteCount),
        chunk.offset >= range.chunks.last!.end
      else { break }
      range.chunks.append(chunk)
    }
    return range
  }

  private mutating func pack(_ row: Int64) throws -> (remoteID: Int64, pack: RemoteID)? {
    if let known = packs[row] { return known }
    let found = try Row.fetchOne(
      database,
      sql: "SELECT remote_id, name FROM remote_pack WHERE id = ?",
      arguments: [row]
    )
    var pack: (remoteID: Int64, pack: RemoteID)?
    if let found, let id = RemoteID(try found.value(at: 1) as String) {
      pack = (try found.value(at: 0), id)
    }
    packs[row] = .some(pack)
    return pack
  }
}
