package import GRDB

/// Adds chunks; the caller's transaction holds a chunk's row and its data together.
package struct ChunkWriter {
  /// 4 MiB of chunks in one short transaction: what SQLite holds in memory until the commit, which takes some
  /// 10 ms. A save uses these only where it cannot have a ``LongTransaction``.
  static let batchByteLimit = 4 << 20

  private let insertChunk: HotStatement
  private let insertData: HotStatement

  /// Prepares the statements; throws `DatabaseError`.
  package init(_ database: Database) throws {
    insertChunk = try HotStatement(
      database,
      """
      INSERT INTO chunk
        (id, page_count, stored_bytes, encoding, optimized, digests, fingerprints)
      VALUES (?, ?, ?, ?, ?, ?, ?)
      """
    )
    insertData = try HotStatement(
      database,
      "INSERT INTO chunk_data (chunk_id, data) VALUES (?, ?)"
    )
  }

  /// The number for the next chunk: one more than the highest that the store ever gave, whose row may
  /// be gone. Stays right for as long as the caller holds the writer's lock.
  ///
  /// - Throws: ``VMCheckpointError`` when no save's chunks could stay below the provisional numbers, or
  ///   `DatabaseError`.
  package static func nextChunkID(_ database: Database) throws -> Int64 {
    // SQLite keeps the highest number in sqlite_sequence. A rescued store may have lost that row, and
    // an edited one may have any value in it.
    let last =
      try Int64.fetchOne(
        database,
        sql: """
          SELECT max(id) FROM (
            SELECT max(id) AS id FROM chunk UNION ALL
            SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = 'chunk')
          """
      ) ?? 0
    guard last >= 0, last < ChunkNumbers.firstProvisional / 2 else {
      throw VMCheckpointError(.corrupt, "chunk \(last) has an impossible number")
    }
    return last + 1
  }

  /// Inserts a compressed chunk.
  package func insert(_ chunk: ChunkBuffer) throws {
    insertChunk.bind(chunk.chunkID, at: 1)
    insertChunk.bind(Int64(chunk.pageCount), at: 2)
    insertChunk.bind(Int64(chunk.storedByteCount), at: 3)
    switch chunk.encoding {
    case .lz4: insertChunk.bind("lz4" as StaticString, at: 4)
    case .raw: insertChunk.bind("raw" as StaticString, at: 4)
    }
    insertChunk.bind(chunk.isOptimized ? 1 : 0, at: 5)
    insertChunk.bind(
      UnsafeRawBufferPointer(
        rebasing: chunk.digests[..<(chunk.pageCount * PageDigest.byteCount)]
      ),
      at: 6
    )
    insertChunk.bind(
      UnsafeRawBufferPointer(
        rebasing: chunk.fingerprints[..<(chunk.pageCount * PageFingerprinter.byteCount)]
      ),
      at: 7
    )
    try insertChunk.run()
    insertData.bind(chunk.chunkID, at: 1)
    insertData.bind(UnsafeRawBufferPointer(rebasing: chunk.stored[..<chunk.storedByteCount]), at: 2)
    try insertData.run()
  }
}

/// Reads chunks, checking what the file says about them.
struct ChunkReader {
  /// What ``load(_:into:)`` says of a chunk that is not there.
  static let missing = "it is missing"

  private let select: HotStatement

  init(_ database: Database) throws {
    select = try HotStatement(
      database,
      """
      SELECT d.data, \(ChunkRow.columns)
        FROM chunk c JOIN chunk_data d ON d.chunk_id = c.id WHERE c.id = ?
      """
    )
  }

  /// Loads the stored form of a chunk, its digests and its fingerprints into `buffer`. Of
  /// fingerprints, which are hints, a wrong number counts as none.
  ///
  /// - Returns: `nil` when that went well, else what is wrong with the chunk.
  /// - Throws: `DatabaseError`.
  func load(_ chunkID: Int64, into buffer: ChunkBuffer) throws -> String? {
    select.bind(chunkID, at: 1)
    defer { select.reset() }
    guard try select.step() else { return Self.missing }
    let row: ChunkRow
    do {
      row = try ChunkRow.read(select, id: chunkID, at: 1)
    } catch let damage as ChunkDamage {
      return damage.description
    }
    buffer.begin(chunkID: chunkID)
    buffer.pageCount = row.pageCount
    buffer.encoding = row.encoding
    buffer.statedByteCount = row.statedByteCount
    buffer.digests.copyMemory(from: row.digests)
    buffer.hasFingerprints = row.fingerprints != nil
    if let fingerprints = row.fingerprints { buffer.fingerprints.copyMemory(from: fingerprints) }
    let hasData = select.withBlob(0) { blob in
      guard !blob.isEmpty, blob.count <= ChunkFormat.maximumStoredByteCount else {
        return false
      }
      buffer.storedByteCount = blob.count
      buffer.stored.copyMemory(from: blob)
      return true
    }
    return hasData ? nil : "its data has an impossible length"
  }
}

/// Reads the digests of stored pages without their data.
struct DigestReader {
  fileprivate let select: HotStatement

  init(_ database: Database) throws {
    select = try HotStatement(database, "SELECT digests FROM chunk WHERE id = ?")
  }

  /// Copies the digests of slots `firstSlot..<firstSlot + count` to `destination`.
  ///
  /// - Returns: `false` when there is no such chunk, or it has no such slots.
  func read(
    _ chunkID: Int64,
    firstSlot: Int,
    count: Int,
    into destination: UnsafeMutablePointer<PageDigest>
  ) throws -> Bool {
    select.bind(chunkID, at: 1)
    defer { select.reset() }
    guard try select.step() else { return false }
    return select.withBlob(0) { blob in
      guard (firstSlot + count) * PageDigest.byteCount <= blob.count, let base = blob.baseAddress
      else { return false }
      for index in 0..<count {
        destination[index] = PageDigest(
          loadingFrom: base + (firstSlot + index) * PageDigest.byteCount
        )
      }
      return true
    }
  }

  /// Whether the page at `location` has `digest`.
  func matches(_ location: PageLocation, _ digest: PageDigest) throws -> Bool {
    select.bind(location.chunkID, at: 1)
    defer { select.reset() }
    guard try select.step() else { return false }
    return select.withBlob(0) { blob in
      guard (location.slot + 1) * PageDigest.byteCount <= blob.count, let base = blob.baseAddress
      else { return false }
      return PageDigest(loadingFrom: base + location.slot * PageDigest.byteCount) == digest
    }
  }
}

extension DigestReader {
  /// The digests of all slots of a chunk; none when there is no such chunk.
  func all(_ chunkID: Int64) throws -> [PageDigest] {
    select.bind(chunkID, at: 1)
    defer { select.reset() }
    guard try select.step() else { return [] }
    return select.withBlob(0) { blob in
      guard let base = blob.baseAddress else { return [] }
      return (0..<min(blob.count / PageDigest.byteCount, ChunkFormat.pageCapacity)).map {
        PageDigest(loadingFrom: base + $0 * PageDigest.byteCount)
      }
    }
  }
}
