import GRDB
import VMCheckpointSchema

/// The numbers of the store's format; the DocC article "Format" draws them.
package enum StoreFormat {
  /// `VMCK`, in SQLite's header at offset 68: marks a store among SQLite files.
  static let applicationID: Int32 = 0x564D_434B

  /// The version that the store's header states.
  static func version(of database: Database) throws -> Int32 {
    try Int32.fetchOne(database, sql: "PRAGMA user_version") ?? 0
  }

  /// What the store has beyond its version.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for an impossible row, or `DatabaseError`.
  static func features(of database: Database) throws -> [StoreFeature] {
    try Row.fetchAll(database, sql: StoreFeature.query).map { row in
      StoreFeature(name: try row.value("name"), required: try row.value("required"))
    }
  }

  /// The error for a store of a version that this program does not know.
  static func newerVersion(_ version: Int32, path: String, known: Int32) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "store \(quotedName(path)) has format version \(version), and this vmckpt knows up to \(known)",
      hint: "use the vmckpt that wrote it, or a newer one"
    )
  }

  /// Adds a feature to the store, in the transaction that first writes data of it.
  static func insert(_ feature: StoreFeature, _ database: Database) throws {
    try database.execute(
      sql: "INSERT OR IGNORE INTO feature (name, required) VALUES (?, ?)",
      arguments: [feature.name, feature.isNeededByReaders ? "reader" : "writer"]
    )
  }

  /// Adds a feature with the tables that it brings, in the transaction that first writes rows of it.
  static func add(_ feature: StoreFeature, _ database: Database) throws {
    guard try !features(of: database).contains(feature) else { return }
    for table in feature.tables where try database.tableExists(table) {
      throw VMCheckpointError.corrupt(
        "the store is damaged: it has the table \(table), and lacks its row in the table feature"
      )
    }
    try insert(feature, database)
    if let sql = feature.sql { try database.execute(sql: sql) }
  }

  /// The error for a feature that keeps this program from a store.
  static func unknownFeature(
    _ feature: StoreFeature,
    path: String,
    toWrite: Bool
  ) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "store \(quotedName(path)) has the feature \(quotedName(feature.name)), which this vmckpt does "
        + "not know" + (toWrite ? " and would harm by writing" : ""),
      hint: "use the vmckpt that wrote it, or a newer one"
    )
  }

  /// SQLite's page. A compressed chunk leaves a quarter of one unused on average, whatever its size:
  /// with pages of 16 KiB that was 15 % of a store. An index block takes one.
  static let databasePageByteCount = 4096

  /// The tables that a store has; a file that lacks one, or has a view in its place, is damaged.
  static let tables: Set<String> = [
    "store", "feature", "snapshot", "snapshot_tag", "memory_region", "chunk", "chunk_data",
    "ram_extent",
    "page_index_run", "page_index_block", "page_index_filter", "overlay_kind", "overlay",
    "device_state",
  ]

  /// One step up from an older format.
  package struct Migration {
    /// The version that the step brings a store to.
    package var version: Int32
    /// The statements that bring it there.
    package var sql: String

    /// A step to `version` by the statements of `sql`.
    package init(version: Int32, sql: String) {
      self.version = version
      self.sql = sql
    }
  }

  /// In ascending order of version, without a gap; the first makes a store out of an empty file.
  package static let migrations = [Migration(version: 1, sql: SchemaSQL.version1)]
}

extension StoreFeature {
  /// The statements that make the feature's tables, if it brings any.
  var sql: String? {
    switch self {
    case .absentRanges: SchemaSQL.absentRanges
    case .overlayOrigins: SchemaSQL.overlayOrigins
    case .leases: SchemaSQL.leases
    case .remotes: SchemaSQL.remotes
    case .verifications: SchemaSQL.verifications
    case .workingSets: SchemaSQL.workingSets
    default: nil
    }
  }
}
