/// The SQL that reads extents.
package enum ExtentQuery {
  /// An extent that begins up to so many pages before a PFN may reach it.
  package static let reach = ChunkFormat.pageCapacity - 1

  /// What ``Extent/init(_:)`` reads, with its table; a condition follows.
  static let columns = """
    e.first_pfn, e.page_count, e.chunk_id, e.first_slot, e.checksum
      FROM main.ram_extent e
    """

  /// The same with the chunk's row behind it.
  static let columnsWithChunk = """
    e.first_pfn, e.page_count, e.chunk_id, e.first_slot, e.checksum, \(ChunkRow.columns)
      FROM main.ram_extent e LEFT JOIN main.chunk c ON c.id = e.chunk_id
    """

  /// The column at which ``ChunkRow`` begins.
  static let chunkColumn: Int32 = 5
}

extension Extent {
  /// An extent from five columns of a row, of which the first is `column`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when they are impossible.
  package init(_ statement: some StoreStatement, from column: Int32 = 0) throws {
    let firstPFN = try statement.integer(column)
    let extent = Extent(
      firstPFN: firstPFN,
      pageCount: try statement.integer(column + 1),
      chunkID: try statement.integer(column + 2),
      firstSlot: try statement.integer(column + 3),
      checksum: try statement.integer(column + 4)
    )
    guard let extent else { throw Extent.damaged(firstPFN: firstPFN) }
    self = extent
  }

  /// Checks that the extent was written for the pages that it names.
  ///
  /// - Parameter chunk: The one that the extent names.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when it was not, or the chunk lacks slots that
  ///   it names.
  package func check(
    _ chunk: ChunkRow,
    of snapshot: StoredSnapshot,
    with check: ExtentCheck
  ) throws(VMCheckpointError) {
    guard let problem = check.problem(of: self, pageCount: chunk.pageCount, digests: chunk.digests)
    else { return }
    throw .corrupt(
      "\(snapshot.title) is damaged: chunk \(chunkID), at PFN \(hexString(firstPFN)): \(problem)"
    )
  }
}

/// Reads extents of one snapshot in ascending order of PFN, checking what the file says: a store
/// may be damaged, or hostile.
package struct ExtentReader<Statement: StoreStatement> {
  private let statement: Statement
  private var nextFreePFN: UInt64 = 0

  /// Prepares the reading of the extents that begin in `firstPFN...lastPFN`.
  ///
  /// - Parameter withChunks: Whether ``chunk(of:)`` can be asked.
  package init<Database: StoreDatabase>(
    _ database: Database,
    snapshotID: Int64,
    firstPFN: UInt64 = 0,
    lastPFN: UInt64 = PFN.max.rawValue,
    withChunks: Bool = false
  ) throws where Database.Statement == Statement {
    statement = try database.storeStatement(
      """
      SELECT \(withChunks ? ExtentQuery.columnsWithChunk : ExtentQuery.columns)
       WHERE e.snapshot_id = ? AND e.first_pfn BETWEEN ? AND ? ORDER BY e.first_pfn
      """,
      isPersistent: false
    )
    try statement.bind(snapshotID, at: 1)
    try rewind(toPFN: firstPFN, through: lastPFN)
  }

  /// Starts anew with the extents that begin in `firstPFN...lastPFN`.
  package mutating func rewind(toPFN firstPFN: UInt64, through lastPFN: UInt64) throws {
    statement.reset()
    try statement.bind(Int64(clamping: firstPFN), at: 2)
    try statement.bind(Int64(clamping: lastPFN), at: 3)
    nextFreePFN = firstPFN
  }

  /// Ends the read in the middle.
  package func reset() { statement.reset() }

  /// The next extent, or `nil` after the last; the read ends then.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for an extent that overlaps the one
  ///   before it or has impossible numbers.
  package mutating func next() throws -> Extent? {
    guard try statement.step() else {
      statement.reset()
      return nil
    }
    do {
      let extent = try Extent(statement)
      guard extent.firstPFN >= nextFreePFN else {
        throw Extent.damaged(firstPFN: Int64(extent.firstPFN))
      }
      nextFreePFN = extent.endPFN
      return extent
    } catch {
      statement.reset()
      throw error
    }
  }

  /// The chunk's row of the extent that ``next()`` returned last; its digests are valid until the next call.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the row is impossible, or missing.
  package func chunk(of extent: Extent) throws -> ChunkRow {
    try ChunkRow(statement, id: extent.chunkID, at: ExtentQuery.chunkColumn)
  }
}
