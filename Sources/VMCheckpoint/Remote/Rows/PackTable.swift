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
