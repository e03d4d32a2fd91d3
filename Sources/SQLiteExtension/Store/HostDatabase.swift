import CSQLiteExtension
import VMCheckpointCore

/// The store on one of the host's connections, which is the database `main` there.
final class HostDatabase: StoreDatabase {
  let connection: OpaquePointer
  private var hasCheckedTables = false
  /// Whether `vmckpt_help` is connected, whose end calls ``Connection/release()``.
  private var isHooked = false

  init(_ connection: OpaquePointer) {
    self.connection = connection
  }

  /// Called when SQLite connects `vmckpt_help`.
  func hook() { isHooked = true }

  /// Called when SQLite disconnects `vmckpt_help`: what is asked next is checked anew.
  func unhook() {
    hasCheckedTables = false
    isHooked = false
  }

  var changeCount: Int64 { vmx_total_changes(connection) }

  func storeStatement(_ sql: String, isPersistent: Bool) throws -> Statement {
    try prepareForUse()
    return try Statement(connection, sql, isPersistent: isPersistent)
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
      connection,
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
    // Connects vmckpt_help, whose end shows that the connection closes.
    var help: OpaquePointer?
    let code = vmx_prepare(connection, "SELECT name FROM vmckpt_help", 0, &help)
    _ = vmx_finalize(help)
    guard code == SQLITE_OK else { throw SQLError(code: code, of: connection) }
    guard isHooked else {
      throw SQLError.misuse("a table or view hides the function vmckpt_help")
    }
    hasCheckedTables = true
  }

  /// What a newer version's chunks and overlays mean is not known here, and what a development version's
  /// extents name is not proved.
  private func checkVersion() throws {
    let columns = try Statement(connection, "PRAGMA main.table_info(ram_extent)")
    var hasChecksums = false
    while try columns.step() {
      if try columns.text(1) == "checksum" { hasChecksums = true }
    }
    guard hasChecksums else {
      throw SQLError.misuse(
        "a development version of vmckpt made the store: its extents have no checksums"
      )
    }
    let header = try Statement(connection, "PRAGMA main.user_version")
    guard try header.step() else { throw SQLError.corrupt("the store states no format version") }
    let version = try header.integer(0)
    guard version <= Int64(StoreVersion.known.upperBound) else {
      throw SQLError.misuse(
        "the store has format version \(version), and this extension knows up to "
          + "\(StoreVersion.known.upperBound): use a newer one"
      )
    }
    let rows = try Statement(connection, StoreFeature.query)
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
