/// What a ``StoreReader`` asks again and again.
enum ReaderQuery: CaseIterable {
  case snapshotByID, snapshotByName, newestSnapshot, snapshotsByUUID, snapshotNames
  case region, regions
  case features, absentRanges, absentRange
  case extent, extentsOfRange, allExtents
  case chunk, chunkData
  case overlays, overlaysOfPage
  case seed, dataVersion

  var sql: String {
    let snapshot = "SELECT \(StoredSnapshot.columns) FROM main.snapshot"
    let overlay = "SELECT \(OverlayRow.columns) FROM main.overlay WHERE snapshot_id = ?1"
    return switch self {
    case .snapshotByID: snapshot + " WHERE id = ?1 AND state = 'complete'"
    case .snapshotByName: snapshot + " WHERE name = ?1 AND state = 'complete'"
    case .newestSnapshot: snapshot + " WHERE state = 'complete' ORDER BY id DESC LIMIT 1"
    case .snapshotsByUUID:
      snapshot
        + " WHERE uuid >= ?1 AND uuid < ?1 || 'g' AND state = 'complete' ORDER BY id LIMIT 4"
    case .snapshotNames:
      "SELECT name FROM main.snapshot WHERE state = 'complete' ORDER BY id DESC LIMIT 10000"
    case .region:
      """
      SELECT gpa, bytes FROM main.memory_region
       WHERE snapshot_id = ?1 AND gpa <= ?2 ORDER BY gpa DESC LIMIT 1
      """
    case .regions:
      """
      SELECT gpa, bytes, file_offset, name FROM main.memory_region
       WHERE snapshot_id = ?1 ORDER BY gpa LIMIT \(RAMLayout.maximumRegionCount + 1)
      """
    case .features: StoreFeature.query
    case .absentRanges:
      """
      SELECT first_pfn, page_count FROM main.absent_range
       WHERE snapshot_id = ?1 ORDER BY first_pfn
      """
    case .absentRange:
      """
      SELECT first_pfn, page_count FROM main.absent_range
       WHERE snapshot_id = ?1 AND first_pfn <= ?2 ORDER BY first_pfn DESC LIMIT 1
      """
    case .extent:
      """
      SELECT \(ExtentQuery.columnsWithChunk)
       WHERE e.snapshot_id = ?1 AND e.first_pfn BETWEEN ?2 - \(ExtentQuery.reach) AND ?2
         AND e.first_pfn + e.page_count > ?2
       ORDER BY e.first_pfn DESC LIMIT 1
      """
    case .extentsOfRange:
      """
      SELECT \(ExtentQuery.columnsWithChunk)
       WHERE e.snapshot_id = ?1 AND e.first_pfn BETWEEN ?2 AND ?3 ORDER BY e.first_pfn
      """
    case .allExtents:
      "SELECT \(ExtentQuery.columnsWithChunk) WHERE e.snapshot_id = ?1 ORDER BY e.first_pfn"
    case .chunk: "SELECT \(ChunkRow.columns) FROM main.chunk c WHERE c.id = ?1"
    case .chunkData:
      // A longer BLOB than any chunk has is not even loaded.
      """
      SELECT CASE WHEN length(data) <= \(ChunkFormat.maximumStoredByteCount) THEN data END
        FROM main.chunk_data WHERE chunk_id = ?1
      """
    case .overlays: overlay + " LIMIT \(OverlayRow.maximumCount + 1)"
    case .overlaysOfPage: overlay + " AND pfn = ?2"
    case .seed: "SELECT fingerprint_seed FROM main.store WHERE id = 1"
    case .dataVersion: "PRAGMA main.data_version"
    }
  }
}
