import Foundation
import GRDB

/// What a store knows of the packs of one remote: the rows of `remote_pack` and `chunk_place`.
///
/// All of it can be had again from the remote. A pack that is condemned is forgotten, with its places.
struct PackTable {
  /// Footers longer than this are not kept; those of packs that this program makes are shorter.
  private static let keptFooterByteCount = 512 << 10

  private let database: Database
  private let remoteID: Int64

  init(_ database: Database, remoteID: Int64) {
    self.database = database
    self.remoteID = remoteID
  }

  /// Where a chunk is in the remote.
  struct Place {
    var pack: RemoteID
    var entry: Int
  }

  /// The pack's row, made where there is none.
  func insert(_ pack: RemoteID, byteCount: UInt64, footer: ArraySlice<UInt8>?) throws -> Int64 {
    let kept = footer.flatMap { $0.count <= Self.keptFooterByteCount ? Data($0) : nil }
    try database.execute(
      sql: """
        INSERT INTO remote_pack (remote_id, name, bytes, footer) VALUES (?, ?, ?, ?)
        ON CONFLICT (remote_id, name) DO UPDATE SET footer = coalesce(excluded.footer, footer)
        """,
      arguments: [remoteID, pack.description, Int64(clamping: byteCount), kept]
    )
    guard
      let id = try Int64.fetchOne(
        database,
        sql: "SELECT id FROM remote_pack WHERE remote_id = ? AND name = ?",
        arguments: [remoteID, pack.description]
      )
    else { throw VMCheckpointError.corrupt("the row of pack \(pack) is gone") }
    return id
  }

  /// The row of a pack whose footer the store has; `nil` where it has none.
  func row(of pack: RemoteID) throws -> Int64? {
    try Int64.fetchOne(
      try database.cachedStatement(
        sql: """
          SELECT id FROM remote_pack WHERE remote_id = ? AND name = ? AND footer IS NOT NULL
          """
      ),
      arguments: [remoteID, pack.description]
    )
  }

  /// The pack's size and its footer; `nil` where the store does not have it.
  func footer(of pack: RemoteID) throws -> (byteCount: UInt64, footer: [UInt8])? {
    let row = try Row.fetchOne(
      try database.cachedStatement(
        sql: """
          SELECT bytes, footer FROM remote_pack
           WHERE remote_id = ? AND name = ? AND length(footer) <= \(Self.keptFooterByteCount)
          """
      ),
      arguments: [remoteID, pack.description]
    )
    guard let row else { return nil }
    return (UInt64(clamping: try row.value(at: 0) as Int64), Array(try row.value(at: 1) as Data))
  }

  /// Notes where chunks are. A chunk that has a place in the pack already keeps it.
  func insert(_ places: [(chunkID: Int64, entry: Int, offset: UInt64)], inPack packID: Int64) throws
  {
    let insert = try HotStatement(
      database,
      "INSERT OR IGNORE INTO chunk_place (chunk_id, pack_id, entry, offset) VALUES (?, ?, ?, ?)"
    )
    for place in places {
      insert.bind(place.chunkID, at: 1)
      insert.bind(packID, at: 2)
      insert.bind(Int64(place.entry), at: 3)
      insert.bind(Int64(clamping: place.offset), at: 4)
      try insert.run()
    }
  }

  /// Where a chunk is, if the store knows a place.
  func place(ofChunk chunkID: Int64) throws -> Place? {
    let row = try Row.fetchOne(
      try database.cachedStatement(
        sql: """
          SELECT p.name, c.entry FROM chunk_place c JOIN remote_pack p ON p.id = c.pack_id
           WHERE c.chunk_id = ? AND p.remote_id = ? ORDER BY p.id LIMIT 1
          """
      ),
      arguments: [chunkID, remoteID]
    )
    guard let row, let pack = RemoteID(try row.value(at: 0) as String) else { return nil }
    return Place(pack: pack, entry: Int(clamping: try row.value(at: 1) as Int64))
  }

  /// The chunk that a place in a pack belongs to.
  func chunk(inPack packID: Int64, entry: Int) throws -> Int64? {
    try Int64.fetchOne(
      try database.cachedStatement(
        sql: "SELECT chunk_id FROM chunk_place WHERE pack_id = ? AND entry = ?"
      ),
      arguments: [packID, entry]
    )
  }

  /// Forgets packs, and the places in them of chunks whose data is here. Others keep theirs: a condemned pack may still
  /// be there, since a snapshot was pushed that needs it.
  func forget(_ packs: some Sequence<RemoteID>) throws {
    let deletePlaces = try database.makeStatement(
      sql: """
        DELETE FROM chunk_place
         WHERE pack_id = (SELECT id FROM remote_pack WHERE remote_id = ?1 AND name = ?2)
           AND EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = chunk_place.chunk_id)
        """
    )
    let deletePack = try database.makeStatement(
      sql: """
        DELETE FROM remote_pack
         WHERE remote_id = ?1 AND name = ?2
           AND NOT EXISTS (SELECT 1 FROM chunk_place c WHERE c.pack_id = remote_pack.id)
        """
    )
    for pack in packs {
      try deletePlaces.execute(arguments: [remoteID, pack.description])
      try deletePack.execute(arguments: [remoteID, pack.description])
    }
  }
}
