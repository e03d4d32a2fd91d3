import GRDB

/// Points overlays whose contents are stored to where those have moved.
enum OverlayContentsMover {
  /// In the caller's transaction.
  ///
  /// - Parameter target: Where the page in a slot of a chunk is by now; `nil` to leave the overlay
  ///   alone. The slot is what the row says: it may be no slot at all.
  /// - Throws: `DatabaseError`, ``VMCheckpointError`` for impossible columns, and what `target` throws.
  static func run(
    _ database: Database,
    target: (_ chunkID: Int64, _ slot: Int64) throws -> PageLocation?
  ) throws {
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT snapshot_id, pfn, kind, vp, contents_chunk_id, contents_slot
          FROM overlay WHERE contents_chunk_id IS NOT NULL
        """
    )
    for row in rows {
      guard
        let location = try target(
          try row.value("contents_chunk_id"),
          try row.value("contents_slot")
        )
      else { continue }
      try database.execute(
        sql: """
          UPDATE overlay SET contents_chunk_id = ?, contents_slot = ?
           WHERE snapshot_id = ? AND pfn = ? AND kind = ? AND vp = ?
          """,
        arguments: [
          location.chunkID, Int64(location.slot), try row.value("snapshot_id") as Int64,
          try row.value("pfn") as Int64, try row.value("kind") as String,
          try row.value("vp") as Int64,
        ]
      )
    }
  }
}
