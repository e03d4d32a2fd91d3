import GRDB

/// The keys of snapshots by their ids, each looked up once: for callers that move pages of many
/// snapshots.
struct SnapshotKeys {
  private let database: Database
  private let checksums: ExtentChecksum
  private var keys: [Int64: SnapshotKey] = [:]

  init(_ database: Database, _ checksums: ExtentChecksum) {
    self.database = database
    self.checksums = checksums
  }

  /// The key of the snapshot with this id. If there is no such row, a key that does not fit any
  /// extent.
  mutating func key(_ snapshotID: Int64) throws -> SnapshotKey {
    if let key = keys[snapshotID] { return key }
    let uuid = try String.fetchOne(
      database,
      sql: "SELECT uuid FROM snapshot WHERE id = ?",
      arguments: [snapshotID]
    )
    let key = checksums.key(ofSnapshot: uuid ?? "")
    keys[snapshotID] = key
    return key
  }
}
