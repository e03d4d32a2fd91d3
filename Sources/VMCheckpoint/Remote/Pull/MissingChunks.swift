import GRDB

/// Brings the data of chunks that are only in a remote.
///
/// Every page has its SHA-256 before its chunk's data becomes a row. A pull that ends early leaves what came: it is
/// whole, and is not asked for again.
struct MissingChunks {
  /// What is written in one transaction.
  private static let bytesPerTransaction = 16 << 20
  private static let maximumThreadCount = 8

  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64

  init(_ database: Database, _ link: RemoteLink, remoteID: Int64) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
  }

  /// What came.
  struct Totals {
    var chunkCount: UInt64 = 0
    var pageCount: UInt64 = 0
    /// Of the chunks; the server sent a little more.
    var storedByteCount: UInt64 = 0
  }

  private struct Missing {
    var chunkID: Int64
    var pack: RemoteID
    var offset: UInt64
    var storedByteCount: Int
  }

  /// Brings the data of those of `chunkIDs` that have none.
  ///
  /// - Parameter control: Its `threadCount` are the requests at a time.
  /// - Throws: ``VMCheckpointError``: `notFound` when a chunk has no place in the remote, or a pack is gone; `corrupt`; as
  ///   ``RemoteTransport``; or `DatabaseError`.
  @discardableResult
  func bring(_ chunkIDs: [Int64], control: OperationControl) throws -> Totals {
    let missing = try missing(chunkIDs, control.cancellation)
    guard !missing.isEmpty else { return Totals() }
    let threadCount = min(max(control.threadCount, 2), Self.maximumThreadCount)
    let loaders = try RangeLoaders(
      link,
      StoreSeed(database).fingerprinter,
      rangeCount: threadCount * 2
    )
    let threads = try WorkerThreads(count: threadCount) { loaders.work() }
    defer {
      loaders.close()
      threads.join()
    }
    return try bring(missing, loaders, control)
  }

  /// Brings the data of the chunks of a snapshot that have none, after its pages were found anew (``PlaceRenewal``).
  ///
  /// - Throws: As ``bring(_:control:)``; `notFound` says that the remote has lost pages then.
  func bring(renewed snapshot: SnapshotRow, control: OperationControl) throws -> Totals {
    do {
      return try bring(
        Store.missingChunks(of: snapshot, database, control.cancellation),
        control: control
      )
    } catch let error as VMCheckpointError where error.code == .notFound {
      throw PlaceRenewal.lost(snapshot, error)
    }
  }

  private func missing(
    _ chunkIDs: [Int64],
    _ cancellation: CancellationFlag
  ) throws -> [Missing] {
    let data = try ChunkPresence(database)
    let place = try HotStatement(
      database,
      """
      SELECT p.name, c.offset, k.stored_bytes
        FROM chunk_place c JOIN remote_pack p ON p.id = c.pack_id JOIN chunk k ON k.id = c.chunk_id
       WHERE c.chunk_id = ? AND p.remote_id = ? ORDER BY p.id LIMIT 1
      """
    )
    place.bind(remoteID, at: 2)
    var missing: [Missing] = []
    defer { try? database.endReading() }
    for (index, chunkID) in chunkIDs.enumerated() {
      if index % 4096 == 0 {
        try cancellation.check()
        try database.endReading()
      }
      try database.beginReading()
      guard try !data.hasData(chunkID) else { continue }
      place.bind(chunkID, at: 1)
      defer { place.reset() }
      guard try place.step(),
        let pack = RemoteID(try place.text(0, maximumByteCount: 2 * RemoteID.byteCount))
      else {
        throw VMCheckpointError(
          .notFound,
          "chunk \(chunkID) has no data here, and no known place in \(link.transport.title)",
          hint: "delete the snapshot, and fetch it anew"
        )
      }
      let storedByteCount = Int(clamping: try place.integer(2))
      guard (1...ChunkFormat.maximumStoredByteCount).contains(storedByteCount) else {
        throw VMCheckpointError.corrupt("chunk \(chunkID): its length is impossible")
      }
      missing.append(
        Missing(
          chunkID: chunkID,
          pack: pack,
          offset: UInt64(clamping: try place.integer(1)),
          storedByteCount: storedByteCount
        )
      )
    }
    // By pack and place, so that ranges are long.
    missing.sort { ($0.pack, $0.offset) < ($1.pack, $1.offset) }
    return missing
  }

  private func bring(
    _ missing: [Missing],
    _ loaders: RangeLoaders,
    _ control: OperationControl
  ) throws -> Totals {
    var totals = Totals()
    var progress = ProgressReporter(
      control,
      phase: "pulling",
      totalByteCount: missing.reduce(0) { $0 + UInt64($1.storedByteCount) }
    )
    let reader = try ChunkReader.Rows(database)
    let writer = try BroughtChunkWriter(database)
    var uncommitted = 0
    func take() throws -> Bool {
      if uncommitted == 0 { try database.endReading() }
      var range = try loaders.takeReady()
      if range == nil {
        // No transaction waits for the network.
        if uncommitted > 0 { try database.commit() }
        uncommitted = 0
        range = try loaders.takeRead()
      }
      guard let range else { return false }
      try control.cancellation.check()
      if uncommitted == 0 { try database.beginTransaction(.immediate) }
      try writer.write(range, &totals)
      uncommitted += range.byteCount
      loaders.giveBack(range)
      if uncommitted >= Self.bytesPerTransaction {
        try database.commit()
        uncommitted = 0
      }
      progress.report(completedByteCount: totals.storedByteCount)
      return true
    }
    var open: ChunkRange?
    for chunk in missing {
      try database.beginReading()
      let part = try reader.part(chunk.chunkID, storedByteCount: chunk.storedByteCount)
      if let range = open {
        if range.add(part, in: chunk.pack, at: chunk.offset) { continue }
        if uncommitted == 0 { try database.endReading() }
        loaders.submit(range)
        open = nil
      }
      var free = loaders.takeFree()
      while free == nil, try take() { free = loaders.takeFree() }
      guard let free else { throw VMCheckpointError(.inputOutput, "ranges were lost") }
      free.begin(chunk.pack, offset: chunk.offset)
      guard free.add(part, in: chunk.pack, at: chunk.offset) else {
        throw VMCheckpointError.corrupt("chunk \(chunk.chunkID): its length is impossible")
      }
      open = free
    }
    if let open { loaders.submit(open) }
    if uncommitted == 0 { try database.endReading() }
    while try take() {}
    if uncommitted > 0 { try database.commit() }
    return totals
  }
}

/// Writes chunks that came; the caller's transaction holds data and fingerprints together.
struct BroughtChunkWriter {
  private let database: Database
  private let insert: HotStatement
  private let update: HotStatement

  init(_ database: Database) throws {
    self.database = database
    // Of one row: of what may write several, SQLite keeps each page as it was, in a file beside its journal.
    insert = try HotStatement(
      database,
      "INSERT OR IGNORE INTO chunk_data (chunk_id, data) VALUES (?, ?)"
    )
    update = try HotStatement(database, "UPDATE chunk SET fingerprints = ? WHERE id = ?")
  }

  func write(_ range: ChunkRange, _ totals: inout MissingChunks.Totals) throws {
    var start = 0
    for part in range.parts {
      let end = start + part.pageCount * PageFingerprinter.byteCount
      try write(part.chunkID, range.stored(part), range.fingerprints[start..<end])
      start = end
      totals.chunkCount += 1
      totals.pageCount += UInt64(part.pageCount)
      totals.storedByteCount += UInt64(part.storedByteCount)
    }
  }
}

extension BroughtChunkWriter {
  /// Writes one chunk; one that was deleted meanwhile is passed over.
  func write(
    _ chunkID: Int64,
    _ stored: UnsafeRawBufferPointer,
    _ fingerprints: ArraySlice<UInt8>
  ) throws {
    try fingerprints.withUnsafeBytes { bytes in
      update.bind(bytes, at: 1)
      update.bind(chunkID, at: 2)
      try update.run()
    }
    guard database.changesCount == 1 else { return }
    insert.bind(chunkID, at: 1)
    insert.bind(stored, at: 2)
    try insert.run()
  }
}

extension ChunkReader {
  /// Reads the rows of chunks whose data is elsewhere.
  struct Rows {
    private let select: HotStatement

    init(_ database: Database) throws {
      select = try HotStatement(
        database,
        "SELECT \(ChunkRow.columns) FROM chunk c WHERE c.id = ?"
      )
    }

    /// What a range needs to know of a chunk.
    ///
    /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the row is impossible, or missing.
    func part(_ chunkID: Int64, storedByteCount: Int) throws -> ChunkRange.Part {
      select.bind(chunkID, at: 1)
      defer { select.reset() }
      guard try select.step() else {
        throw VMCheckpointError.corrupt("chunk \(chunkID) is missing")
      }
      let row = try ChunkRow(select, id: chunkID, at: 0)
      return ChunkRange.Part(
        chunkID: chunkID,
        pageCount: row.pageCount,
        encoding: row.encoding,
        start: 0,
        storedByteCount: storedByteCount,
        digests: Array(row.digests)
      )
    }
  }
}
