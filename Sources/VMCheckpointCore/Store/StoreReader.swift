/// Reads a store through one connection: snapshots, layouts, pages, overlays. The library and the SQLite
/// extension both read through it.
///
/// Trusts nothing in the store. Every page that it gives has its fingerprint or its SHA-256, and every extent
/// the checksum that ties it to its snapshot, its PFNs and the SHA-256s of the pages that it names. Where no
/// extent is found, the extents that are there must add up to what the snapshot's row says: a lost one would
/// read as zeros.
///
/// Not thread-safe, like the connection. Statements are kept, and may hold a read transaction open until
/// ``resetStatements()``; so what one call finds and the next looks up is of one moment.
package final class StoreReader<Database: StoreDatabase> {
  let database: Database
  private var statements: [ReaderQuery: Database.Statement] = [:]
  private var decodedChunks: DecodedChunks<Database>?
  /// Snapshots that were found to have all of their extents, by UUID, and the store's version then.
  var wholeSnapshots: [String: Int64] = [:]
  static var wholeSnapshotsMaximum: Int { 4096 }

  /// How many decoded chunks of 64 KiB ``chunks()`` keeps.
  private let chunkCapacity: Int

  package init(_ database: Database, chunkCapacity: Int = 8) {
    self.database = database
    self.chunkCapacity = chunkCapacity
  }

  /// Lets go of all statements, so that the connection can close, and of all chunks.
  package func release() {
    statements = [:]
    decodedChunks = nil
    wholeSnapshots = [:]
  }

  /// Ends the hold that the kept statements have on the database.
  package func resetStatements() {
    for statement in statements.values { statement.reset() }
  }

  /// The kept statement for `query`, reset.
  func statement(_ query: ReaderQuery) throws -> Database.Statement {
    if let statement = statements[query] {
      statement.reset()
      return statement
    }
    let statement = try database.storeStatement(query.sql, isPersistent: true)
    statements[query] = statement
    return statement
  }

  /// The chunks that were decoded last.
  func chunks() throws -> DecodedChunks<Database> {
    if let decodedChunks { return decodedChunks }
    let chunks = try DecodedChunks(self, capacity: chunkCapacity)
    decodedChunks = chunks
    return chunks
  }

  /// Changes with each commit of another connection, and with each change by this one.
  package func dataVersion() throws -> Int64 {
    let statement = try statement(.dataVersion)
    defer { statement.reset() }
    guard try statement.step() else { throw VMCheckpointError.corrupt("the store has no version") }
    return try statement.integer(0) &+ database.changeCount << 32
  }

  /// The store's secret, read anew each time: another store may have come to the file's place.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the store has none.
  package func seed() throws -> StoreSeed {
    let statement = try statement(.seed)
    defer { statement.reset() }
    guard try statement.step() else {
      throw VMCheckpointError(
        .corrupt,
        "the store is damaged: its row in store is missing",
        hint: "restore what is needed with: vmckpt restore --verify"
      )
    }
    return StoreSeed(value: UInt64(bitPattern: try statement.integer(0)))
  }
}
