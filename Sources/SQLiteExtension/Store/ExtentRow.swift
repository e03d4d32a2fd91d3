import CSQLiteExtension
import VMCheckpointCore

/// A row of `ram_extent`, checked, with its chunk's row.
struct ExtentRow {
  var firstPFN: UInt64
  var pageCount: Int
  var firstSlot: Int
  var chunkID: Int64
  /// As ``ExtentChecksum`` makes it.
  var checksum: UInt64

  /// What ``init(_:)`` reads, with its tables; a condition follows.
  static let columns = """
    e.first_pfn, e.page_count, e.first_slot, e.chunk_id, e.checksum,
           \(ChunkRow.columns)
      FROM main.ram_extent e LEFT JOIN main.chunk c ON c.id = e.chunk_id
    """

  /// The column at which ``ChunkRow`` begins.
  static let chunkColumn: CInt = 5

  var endPFN: UInt64 { firstPFN + UInt64(pageCount) }

  /// - Throws: ``SQLError`` when the row is impossible.
  init(_ statement: Statement) throws {
    let firstPFN = try statement.integer(0)
    let pageCount = try statement.integer(1)
    let firstSlot = try statement.integer(2)
    chunkID = try statement.integer(3)
    checksum = UInt64(bitPattern: try statement.integer(4))
    guard firstPFN >= 0, UInt64(firstPFN) < PFN.max.rawValue - 16, (1...16).contains(pageCount),
      (0..<16).contains(firstSlot), firstSlot + pageCount <= 16
    else {
      throw SQLError.corrupt("the store is damaged: an extent is impossible")
    }
    self.firstPFN = UInt64(firstPFN)
    self.pageCount = Int(pageCount)
    self.firstSlot = Int(firstSlot)
  }

  /// Checks that the extent was written for the pages that it names.
  ///
  /// - Parameter chunk: The one that the extent names.
  /// - Throws: ``SQLError`` when it was not, or the chunk lacks slots that it names.
  func check(_ chunk: ChunkRow, of snapshot: SnapshotRow, _ checksums: ExtentChecksum) throws {
    guard firstSlot + pageCount <= chunk.pageCount else {
      throw SQLError.corrupt(
        "chunk \(chunk.id) lacks slots that the extent at PFN \(hexString(firstPFN)) names"
      )
    }
    let found = checksums.checksum(
      checksums.key(ofSnapshot: snapshot.uuid),
      firstPFN: firstPFN,
      pageCount: pageCount,
      digests: chunk.digests.baseAddress! + firstSlot * PageDigest.byteCount
    )
    guard found == checksum else {
      throw SQLError.corrupt(
        "\(snapshot.title) is damaged: the extent at PFN \(hexString(firstPFN)) was written for "
          + "other pages than it names"
      )
    }
  }
}

/// A row of `chunk`, checked. The digests are valid until the statement steps.
struct ChunkRow {
  var id: Int64
  var pageCount: Int
  var isCompressed: Bool
  var storedByteCount: Int
  /// 32 bytes for each page.
  var digests: UnsafeRawBufferPointer
  /// 8 bytes for each page; `nil` where the row has a wrong number, which counts as none.
  var fingerprints: UnsafeRawBufferPointer?

  /// What ``init(_:id:at:)`` reads, of a table called `c`.
  static let columns =
    "c.page_count, c.encoding, c.stored_bytes, c.digests, c.fingerprints"

  /// - Throws: ``SQLError`` when the row is impossible or, after a LEFT JOIN, missing.
  init(_ statement: Statement, id: Int64, at column: CInt) throws {
    self.id = id
    guard !statement.isNull(column) else {
      throw SQLError.corrupt("chunk \(id) is missing")
    }
    let pageCount = try statement.integer(column)
    let encoding = try statement.text(column + 1)
    let storedByteCount = try statement.integer(column + 2)
    digests = try statement.blob(column + 3)
    guard (1...16).contains(pageCount), digests.count == Int(pageCount) * PageDigest.byteCount,
      (1...Int64(ChunkReader.byteCapacity)).contains(storedByteCount),
      encoding == "lz4" || encoding == "raw"
    else {
      throw SQLError.corrupt("chunk \(id): its row is impossible")
    }
    let fingerprints = try statement.blob(column + 4)
    if fingerprints.count == Int(pageCount) * PageFingerprinter.byteCount {
      self.fingerprints = fingerprints
    }
    self.pageCount = Int(pageCount)
    self.storedByteCount = Int(storedByteCount)
    isCompressed = encoding == "lz4"
  }

  /// The digest of the page in `slot`.
  ///
  /// - Throws: ``SQLError`` when the chunk has no such slot.
  func digest(_ slot: Int) throws -> PageDigest {
    guard slot < pageCount else { throw SQLError.corrupt("chunk \(id) has no slot \(slot)") }
    return PageDigest(loadingFrom: digests.baseAddress! + slot * PageDigest.byteCount)
  }
}
