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
  ///   JOIN, missing.
  package init(_ statement: some StoreStatement, id: Int64, at column: Int32) throws {
    do throws(ChunkDamage) {
      self = try Self.read(statement, id: id, at: column)
    } catch {
      throw VMCheckpointError.corrupt("chunk \(id): \(error)")
    }
  }

  /// As ``init(_:id:at:)``.
  ///
  /// - Throws: What is wrong with the row.
  package static func read(
    _ statement: some StoreStatement,
    id: Int64,
    at column: Int32
  ) throws(ChunkDamage) -> ChunkRow {
    guard !statement.isNull(column) else { throw ChunkDamage(description: "it is missing") }
    guard let pageCount = try? statement.integer(column),
      (1...Int64(ChunkFormat.pageCapacity)).contains(pageCount)
    else { throw ChunkDamage(description: "its page count is impossible") }
    let encoding: ChunkEncoding
    switch try? statement.text(column + 1) {
    case "lz4": encoding = .lz4
    case "raw": encoding = .raw
    default: throw ChunkDamage(description: "its encoding is unknown")
    }
    guard let statedByteCount = try? statement.integer(column + 2) else {
      throw ChunkDamage(description: "its length is impossible")
    }
    guard let digests = try? statement.blob(column + 3),
      digests.count == Int(pageCount) * PageDigest.byteCount
    else { throw ChunkDamage(description: "it has a wrong number of digests") }
    let fingerprints = try? statement.blob(column + 4)
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
