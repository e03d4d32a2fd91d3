import GRDB

extension Store {
  /// What the store holds and what it takes.
  ///
  /// - Throws: ``VMCheckpointError``.
  public func statistics() throws(VMCheckpointError) -> StoreStatistics {
    try read { database in
      try StoreSchema.requireViews(database)
      guard
        let row = try Row.fetchOne(
          database,
          sql: """
            SELECT st.uuid, st.created_at, v.*,
                   (SELECT count(DISTINCT vm) FROM snapshot WHERE state = 'complete') AS vms,
                   (SELECT count(*) FROM snapshot WHERE state = 'writing') AS unfinished,
                   (SELECT count(*) FROM page_index_run WHERE state = 'active') AS runs,
                   (SELECT coalesce(sum(entry_count), 0) FROM page_index_run
                     WHERE state = 'active') AS entries
              FROM store st, storage_stats v WHERE st.id = 1
            """
        )
      else { throw VMCheckpointError(.corrupt, "store \(quotedName(path)) has no identity") }
      func count(_ column: String) throws -> UInt64 {
        UInt64(clamping: try row.value(column) as Int64)
      }
      return try StoreStatistics(
        path: path,
        formatVersion: Int(StoreFormat.version(of: database)),
        features: StoreFormat.features(of: database).map(\.name),
        uuid: try row.value("uuid"),
        createdAt: try row.value("created_at"),
        snapshotCount: count("snapshots"),
        vmCount: count("vms"),
        ramByteCount: count("ram_bytes"),
        nonzeroByteCount: count("nonzero_bytes"),
        distinctPageByteCount: count("distinct_page_bytes"),
        storedByteCount: count("stored_bytes"),
        chunkCount: count("chunks"),
        deviceStateByteCount: count("device_state_bytes"),
        pageIndexEntryCount: count("entries"),
        pageIndexRunCount: count("runs"),
        fileByteCount: count("file_bytes"),
        freeByteCount: count("free_bytes"),
        reserveByteCount: StoreReserve(location).byteCount,
        unfinishedSnapshotCount: count("unfinished")
      )
    }
  }
}
