import CSQLiteExtension
import VMCheckpointCore

/// One of the host's connections as all functions on it share it: the statements that scalar
/// functions use again and again, and decoded chunks.
///
/// SQLite calls a connection's functions one at a time.
final class Connection {
  let database: OpaquePointer
  private var statements: [StatementKey: Statement] = [:]
  private var chunkReader: ChunkReader?
  private var hasCheckedTables = false
  /// Snapshots that were found to have all of their extents, by UUID, and the store's version then.
  var wholeSnapshots: [String: Int64] = [:]
  static let wholeSnapshotsMaximum = 4096
  /// Whether `vmckpt_help` is connected, whose end calls ``release()``.
  private var isHooked = false

  /// Statements that are kept between calls.
  enum StatementKey: CaseIterable {
    case snapshotByID, snapshotByName, newestSnapshot, snapshotsByUUID
    case region, regions, extent, extentSums, overlays, chunk, seed, dataVersion
  }

  init(_ database: OpaquePointer) {
    self.database = database
  }

  /// Called when SQLite connects `vmckpt_help`.
  func hook() { isHooked = true }

  /// Lets go of everything: SQLite closes no connection that has statements.
  ///
  /// Called when SQLite disconnects `vmckpt_help`, which it does first when it closes.
  func release() {
    statements = [:]
    chunkReader = nil
    hasCheckedTables = false
    wholeSnapshots = [:]
    isHooked = false
  }

  /// The chunks that scalar functions read.
  func chunks() throws -> ChunkReader {
    if let chunkReader { return chunkReader }
    let reader = try ChunkReader(self, capacity: 8)
    chunkReader = reader
    return reader
  }

  /// The statement for `key`, kept until the connection closes.
  func statement(_ key: StatementKey) throws -> Statement {
    if let statement = statements[key] { return statement }
    try prepareForUse()
    let statement = try Statement(database, key.sql, isPersistent: true)
    statements[key] = statement
    return statement
  }

  /// Changes with each commit of another connection, and with each change by this one.
  func dataVersion() throws -> Int64 {
    let statement = try statement(.dataVersion)
    statement.reset()
    defer { statement.reset() }
    guard try statement.step() else { throw SQLError.corrupt("the store has no version") }
    return try statement.integer(0) &+ vmx_total_changes(database) << 32
  }

  /// The store's secret, read anew each time: another store may have come to the file's place.
  func seed() throws -> StoreSeed {
    let statement = try statement(.seed)
    statement.reset()
    defer { statement.reset() }
    guard try statement.step() else {
      throw SQLError.corrupt("the store is damaged: its row in store is missing")
    }
    return StoreSeed(value: UInt64(bitPattern: try statement.integer(0)))
  }

  /// A statement of the caller's own on the store's tables.
  func makeStatement(_ sql: String) throws -> Statement {
    try prepareForUse()
    return try Statement(database, sql)
  }

  /// Ends the hold that this connection's shared statements have on the database.
  func resetStatements() {
    for statement in statements.values { statement.reset() }
  }

  /// Checks that the database is a store whose tables are tables, and that nothing has the name of
  /// a function, once.
  ///
  /// A view in a table's place could run for ever, or run anything; a table in a function's would
  /// be read in its stead.
  private func prepareForUse() throws {
    guard !hasCheckedTables else { return }
    func list(_ names: [String]) -> String {
      names.map { "'\($0)'" }.joined(separator: ", ")
    }
    let tables = [
      "chunk", "chunk_data", "feature", "memory_region", "overlay", "ram_extent", "snapshot",
      "store",
    ]
    let check = try Statement(
      database,
      """
      SELECT sum(type = 'table' AND rootpage > 0 AND name IN (\(list(tables)))),
             sum(lower(name) IN (\(list(SQLFunctions.tables.map(\.help.name)))))
        FROM main.sqlite_schema
      """
    )
    guard try check.step(), try check.optionalInteger(0) == Int64(tables.count) else {
      throw SQLError.misuse("the main database is not a vmckpt store, or lacks a table")
    }
    guard try check.integer(1) == 0 else {
      throw SQLError.corrupt("the store has a table or view with the name of a function")
    }
    try checkVersion()
    // Connects vmckpt_help, whose end tells when the connection closes.
    var help: OpaquePointer?
    let code = vmx_prepare(database, "SELECT name FROM vmckpt_help", 0, &help)
    _ = vmx_finalize(help)
    guard code == SQLITE_OK else { throw SQLError(code: code, of: database) }
    guard isHooked else {
      throw SQLError.misuse("a table or view hides the function vmckpt_help")
    }
    hasCheckedTables = true
  }

  /// What a newer version's chunks and overlays mean is not known here, and what a development version's
  /// extents name is not proved.
  private func checkVersion() throws {
    let columns = try Statement(database, "PRAGMA main.table_info(ram_extent)")
    var hasChecksums = false
    while try columns.step() {
      if try columns.text(1) == "checksum" { hasChecksums = true }
    }
    guard hasChecksums else {
      throw SQLError.misuse(
        "a development version of vmckpt made the store: its extents have no checksums"
      )
    }
    let header = try Statement(database, "PRAGMA main.user_version")
    guard try header.step() else { throw SQLError.corrupt("the store states no format version") }
    let version = try header.integer(0)
    guard version <= Int64(StoreVersion.known.upperBound) else {
      throw SQLError.misuse(
        "the store has format version \(version), and this extension knows up to "
          + "\(StoreVersion.known.upperBound): use a newer one"
      )
    }
    let rows = try Statement(database, StoreFeature.query)
    var features: [StoreFeature] = []
    while try rows.step() {
      features.append(StoreFeature(name: try rows.text(0), required: try rows.text(1)))
    }
    if let feature = StoreFeature.unknown(among: features, toWrite: false) {
      throw SQLError.misuse(
        "the store has the feature \(quotedName(feature.name)), which this extension does not know: "
          + "use a newer one"
      )
    }
  }
}

extension Connection.StatementKey {
  fileprivate var sql: String {
    let snapshot = "SELECT \(SnapshotRow.columns) FROM main.snapshot"
    return switch self {
    case .snapshotByID: snapshot + " WHERE id = ?1 AND state = 'complete'"
    case .snapshotByName: snapshot + " WHERE name = ?1 AND state = 'complete'"
    case .newestSnapshot: snapshot + " WHERE state = 'complete' ORDER BY id DESC LIMIT 1"
    case .snapshotsByUUID:
      snapshot
        + " WHERE uuid >= ?1 AND uuid < ?1 || 'g' AND state = 'complete' ORDER BY id LIMIT 2"
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
    case .extent:
      """
      SELECT \(ExtentRow.columns)
       WHERE e.snapshot_id = ?1 AND e.first_pfn BETWEEN ?2 - 15 AND ?2
         AND e.first_pfn + e.page_count > ?2
       ORDER BY e.first_pfn DESC LIMIT 1
      """
    case .extentSums:
      "SELECT page_count, checksum FROM main.ram_extent WHERE snapshot_id = ?1"
    case .dataVersion: "PRAGMA main.data_version"
    case .overlays:
      """
      SELECT kind, vp, parameters, contents_chunk_id, contents_slot, baked
        FROM main.overlay WHERE snapshot_id = ?1 AND pfn = ?2
      """
    case .chunk:
      """
      SELECT \(ChunkRow.columns) FROM main.chunk c WHERE c.id = ?1
      """
    case .seed: "SELECT fingerprint_seed FROM main.store WHERE id = 1"
    }
  }
}
