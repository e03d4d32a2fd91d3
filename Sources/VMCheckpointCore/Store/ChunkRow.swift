/// A row of `chunk`, checked. What it points to is valid until the statement steps.
package struct ChunkRow {
  package var id: Int64
  package var pageCount: Int
  package var encoding: ChunkEncoding
  /// What the row says of the data's length, which space counts rely on.
  package var statedByteCount: Int64
  /// 32 bytes for each page.
  package var digests: UnsafeRawBufferPointer
  /// 8 bytes for each page; `nil` where the row has a wrong number, which counts as none: they are hints.
  package var fingerprints: UnsafeRawBufferPointer?

  /// What ``init(_:id:at:)`` reads, of a table called `c`.
  package static let columns =
    "c.page_count, c.encoding, c.stored_bytes, c.digests, c.fingerprints"

  /// In SQL: whether the row `c` of `chunk` is one that ``init(_:id:at:)`` takes.
  package static let readableCondition =
    "c.encoding IN ('lz4', 'raw') AND length(c.digests) = c.page_count * \(PageDigest.byteCount)"

  /// From five columns, of which the first is `column`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the row is impossible or, after a LEFT
  ///   JOIN, missing; or why it could not be read.
  package init(_ statement: some StoreStatement, id: Int64, at column: Int32) throws {
    do {
      self = try Self.read(statement, id: id, at: column)
    } catch let damage as ChunkDamage {
      throw VMCheckpointError.corrupt("chunk \(id): \(damage)")
    }
  }

  /// As ``init(_:id:at:)``.
  ///
  /// - Throws: ``ChunkDamage`` that says what is wrong with the row; or why it could not be read, as when
  ///   memory ran out.
  package static func read(
    _ statement: some StoreStatement,
    id: Int64,
    at column: Int32
  ) throws -> ChunkRow {
    guard !statement.isNull(column) else { throw ChunkDamage(description: "it is missing") }
    guard let pageCount = try valid({ try statement.integer(column) }),
      (1...Int64(ChunkFormat.pageCapacity)).contains(pageCount)
    else { throw ChunkDamage(description: "its page count is impossible") }
    let encoding: ChunkEncoding
    switch try valid({ try statement.text(column + 1) }) {
    case "lz4": encoding = .lz4
    case "raw": encoding = .raw
    default: throw ChunkDamage(description: "its encoding is unknown")
    }
    guard let statedByteCount = try valid({ try statement.integer(column + 2) }) else {
      throw ChunkDamage(description: "its length is impossible")
    }
    guard let digests = try valid({ try statement.blob(column + 3) }),
      digests.count == Int(pageCount) * PageDigest.byteCount
    else { throw ChunkDamage(description: "it has a wrong number of digests") }
    let fingerprints = try valid({ try statement.blob(column + 4) })
    return ChunkRow(
      id: id,
      pageCount: Int(pageCount),
      encoding: encoding,
      statedByteCount: statedByteCount,
      digests: digests,
      fingerprints: fingerprints?.count == Int(pageCount) * PageFingerprinter.byteCount
        ? fingerprints : nil
    )
  }

  /// A column's value; `nil` when the column is damaged.
  private static func valid<Value>(_ read: () throws -> Value) throws -> Value? {
    do {
      return try read()
    } catch let error as VMCheckpointError where error.isDamage {
      return nil
    }
  }

  private init(
    id: Int64,
    pageCount: Int,
    encoding: ChunkEncoding,
    statedByteCount: Int64,
    digests: UnsafeRawBufferPointer,
    fingerprints: UnsafeRawBufferPointer?
  ) {
    self.id = id
    self.pageCount = pageCount
    self.encoding = encoding
    self.statedByteCount = statedByteCount
    self.digests = digests
    self.fingerprints = fingerprints
  }

  /// The digest of the page in `slot`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the chunk has no such slot.
  package func digest(_ slot: Int) throws(VMCheckpointError) -> PageDigest {
    guard slot < pageCount else { throw .noSlot(slot, chunkID: id) }
    return PageDigest(loadingFrom: digests.baseAddress! + slot * PageDigest.byteCount)
  }
}

extension VMCheckpointError {
  static func noSlot(_ slot: Int, chunkID: Int64) -> VMCheckpointError {
    .corrupt("chunk \(chunkID) has no slot \(slot)")
  }
}
