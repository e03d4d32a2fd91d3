import GRDB

/// Copies the live pages of chunks that are mostly dead into new chunks, points the extents and
/// overlays that name them there, and deletes the old chunks. Does so for a group of chunks in each
/// transaction.
struct ChunkRepacker {
  /// Chunks repacked in one transaction: at most some 8 MiB of new chunks, and twice that deleted.
  private static let groupCount = 256

  /// Uses of the chunks of one pass kept in memory: 48 MiB.
  private static let usesLimit = 1 << 20

  private struct Use {
    var snapshotID: Int64
    var extent: Extent
  }

  private struct MovedPage {
    var location: PageLocation
    var digest: PageDigest
  }

  private let database: Database
  private let control: OperationControl
  private let requireLocks: () throws -> Void
  private let chunkWriter: ChunkWriter
  private let chunkReader: ChunkReader
  private let decoder: LZ4FrameDecoder
  private let fingerprinter: PageFingerprinter
  private let checksums: ExtentChecksum
  private var keys: SnapshotKeys
  private let source: ChunkBuffer
  private let target: ChunkBuffer
  private let compressor: ChunkCompressor
  private var nextChunkID: Int64
  private var newEntries: [IndexEntry] = []
  private var totals = Totals()

  /// What was done, without what was rolled back.
  private struct Totals {
    var newStoredByteCount: UInt64 = 0
    var oldStoredByteCount: UInt64 = 0
    var repackedChunkIDs: [Int64] = []
  }

  var repackedChunkIDs: [Int64] { totals.repackedChunkIDs }
  /// Chunks that a damaged extent names.
  private var unmovable = Set<Int64>()

  var freedStoredByteCount: UInt64 {
    totals.oldStoredByteCount > totals.newStoredByteCount
      ? totals.oldStoredByteCount - totals.newStoredByteCount : 0
  }

  /// - Parameter requireLocks: Throws when the locks that the caller has taken do not keep others out any
  ///   more.
  init(
    _ database: Database,
    control: OperationControl,
    requireLocks: @escaping () throws -> Void
  ) throws {
    self.database = database
    self.control = control
    self.requireLocks = requireLocks
    chunkWriter = try ChunkWriter(database)
    chunkReader = try ChunkReader(database)
    decoder = try LZ4FrameDecoder()
    let seed = try StoreSeed(database)
    fingerprinter = seed.fingerprinter
    checksums = seed.extentChecksum
    keys = SnapshotKeys(database, checksums)
    source = try ChunkBuffer()
    target = try ChunkBuffer()
    compressor = try ChunkCompressor(ChunkCompression.default.effort)
    nextChunkID = try ChunkWriter.nextChunkID(database)
  }

  /// - Parameter candidates: Chunks in ascending order with their live slots. One that cannot be
  ///   read stays as it is.
  mutating func repack(_ candidates: [(chunkID: Int64, liveSlots: UInt16)]) throws {
    var rest = candidates[...]
    while !rest.isEmpty {
      var pass = rest
      let version = try NamedChunks.version(database)
      var uses = try uses(of: pass)
      while uses == nil, pass.count > 1 {
        pass = pass.prefix(pass.count / 2)
        uses = try self.uses(of: pass)
      }
      rest = rest[pass.endIndex...]
      // A single chunk with that many uses is not worth the memory.
      guard let uses else { continue }
      try repack(pass, uses, version: version)
    }
  }

  /// The extents that name the chunks, by chunk; `nil` when there are too many. Those of snapshots
  /// that are being deleted as well: none may be left that names a chunk which is gone.
  private mutating func uses(
    of pass: ArraySlice<(chunkID: Int64, liveSlots: UInt16)>
  ) throws -> [Int64: [Use]]? {
    let wanted = Set(pass.map(\.chunkID))
    let select = try HotStatement(
      database,
      """
      SELECT e.snapshot_id, e.first_pfn, e.page_count, e.chunk_id, e.first_slot, e.checksum
        FROM ram_extent e
      """
    )
    defer { select.reset() }
    var uses: [Int64: [Use]] = [:]
    var damaged = Set<Int64>()
    var count = 0
    while try select.step() {
      guard wanted.contains(select.int64(3)) else { continue }
      count += 1
      guard count <= Self.usesLimit else { return nil }
      guard let extent = try? Extent(select, from: 1) else {
        damaged.insert(select.int64(3))
        continue
      }
      uses[extent.chunkID, default: []].append(
        Use(snapshotID: select.int64(0), extent: extent)
      )
    }
    // What a damaged extent names stays where it is.
    for chunkID in damaged { uses[chunkID] = nil }
    unmovable.formUnion(damaged)
    return uses
  }

  /// - Parameter version: ``NamedChunks/version(_:)`` from before `uses` were read.
  private mutating func repack(
    _ pass: ArraySlice<(chunkID: Int64, liveSlots: UInt16)>,
    _ uses: [Int64: [Use]],
    version: Int64
  ) throws {
    var rest = pass
    var batch = SpaceBoundedBatch(count: Self.groupCount)
    while !rest.isEmpty {
      try control.cancellation.check()
      var taken = 0
      try batch.run { count in
        let group = rest.prefix(count)
        taken = group.count
        let totals = totals
        do {
          try ChunkRemover.withoutForeignKeys(database) {
            try database.inTransaction(.immediate) {
              try requireLocks()
              try repackGroup(group, uses, isCurrent: NamedChunks.version(database) == version)
              return .commit
            }
          }
        } catch {
          self.totals = totals
          throw error
        }
      }
      rest = rest.dropFirst(taken)
    }
  }

  /// - Parameter isCurrent: Whether no other connection has committed anything since `uses` were read.
  private mutating func repackGroup(
    _ group: ArraySlice<(chunkID: Int64, liveSlots: UInt16)>,
    _ uses: [Int64: [Use]],
    isCurrent: Bool
  ) throws {
    newEntries.removeAll(keepingCapacity: true)
    var moved: [PageLocation: MovedPage] = [:]
    var movedChunkIDs: [Int64] = []
    target.begin(chunkID: nextChunkID)
    for (chunkID, liveSlots) in group {
      let problem =
        try chunkReader.load(chunkID, into: source)
        ?? source.decompress(with: decoder, check: .digests)
      // A damaged chunk is left for verify to report, and never stored anew.
      guard problem == nil, liveSlots >> source.pageCount == 0, !unmovable.contains(chunkID)
      else { continue }
      // An extent that was written for other pages must not get a checksum for these.
      guard try areRight(uses[chunkID] ?? []) else { continue }
      movedChunkIDs.append(chunkID)
      totals.oldStoredByteCount += UInt64(source.storedByteCount)
      for slot in 0..<source.pageCount where liveSlots & (1 << slot) != 0 {
        moved[PageLocation(chunkID: chunkID, slot: slot)] = MovedPage(
          location: try append(slot),
          digest: source.digest(slot)
        )
      }
    }
    if target.pageCount > 0 { try writeTarget() }
    for chunkID in movedChunkIDs {
      try move(uses[chunkID] ?? [], moved)
    }
    try moveOverlays(Set(movedChunkIDs), moved)
    // What was committed meanwhile may name one of them: it stays, for the next gc.
    let named =
      isCurrent ? nil : try NamedChunks(database, among: movedChunkIDs, control.cancellation)
    let places = try ChunkPlaces(database)
    for (index, chunkID) in movedChunkIDs.enumerated() where named?.isNamed(index) != true {
      try places.remove(chunkID)
      try database.execute(sql: "DELETE FROM chunk_data WHERE chunk_id = ?", arguments: [chunkID])
      try database.execute(sql: "DELETE FROM chunk WHERE id = ?", arguments: [chunkID])
    }
    newEntries.sort()
    try PageIndex.append(newEntries, to: database)
    totals.repackedChunkIDs.append(contentsOf: movedChunkIDs)
  }

  /// Whether all extents that name the chunk in `source` were written for the pages that they name.
  private mutating func areRight(_ uses: [Use]) throws -> Bool {
    for use in uses {
      let check = ExtentCheck(checksums, key: try keys.key(use.snapshotID))
      guard check.problem(of: use.extent, in: source) == nil else { return false }
    }
    return true
  }

  private mutating func append(_ slot: Int) throws -> PageLocation {
    if target.isFull { try writeTarget() }
    let digest = source.digest(slot)
    let location = target.append(source.page(slot).baseAddress!, digest: digest)
    newEntries.append(IndexEntry(prefix: digest.prefix, location: location))
    return location
  }

  private mutating func writeTarget() throws {
    target.compress(with: compressor, fingerprinter)
    try chunkWriter.insert(target)
    totals.newStoredByteCount += UInt64(target.storedByteCount)
    nextChunkID += 1
    target.begin(chunkID: nextChunkID)
  }

  private mutating func move(_ uses: [Use], _ moved: [PageLocation: MovedPage]) throws {
    for use in uses {
      try database.execute(
        sql: "DELETE FROM ram_extent WHERE snapshot_id = ? AND first_pfn = ?",
        arguments: [use.snapshotID, Int64(use.extent.firstPFN)]
      )
      // A delete needs no lock to hide a snapshot and to remove its extents.
      guard database.changesCount == 1 else { continue }
      var writer = try ExtentWriter(
        database,
        snapshotID: use.snapshotID,
        key: keys.key(use.snapshotID),
        checksums: checksums
      )
      for index in 0..<Int(use.extent.pageCount) {
        guard let page = moved[use.extent.location(at: index)] else {
          throw VMCheckpointError(
            .corrupt,
            "an extent names slots that chunk \(use.extent.chunkID) does not have",
            hint: "see what is hurt with: vmckpt verify"
          )
        }
        writer.add(
          pfn: use.extent.firstPFN + UInt64(index),
          at: page.location,
          digest: page.digest
        )
      }
      _ = try writer.write(ChunkNumbers(nextChunkID), isEnd: true)
    }
  }

  private func moveOverlays(
    _ chunkIDs: Set<Int64>,
    _ moved: [PageLocation: MovedPage]
  ) throws {
    try OverlayContentsMover.run(database) { chunkID, slot in
      guard chunkIDs.contains(chunkID) else { return nil }
      guard (0..<16).contains(slot),
        let location = moved[PageLocation(chunkID: chunkID, slot: Int(slot))]?.location
      else {
        throw VMCheckpointError(.corrupt, "the contents of an overlay are nowhere")
      }
      return location
    }
  }
}
