import GRDB

/// Gives the pages of a manifest places in this store: chunks that it has, or new rows without data.
///
/// A page that the store has is that one, and never comes over the network. Of an entry with a page that it does not
/// have there is a row in `chunk`, with the SHA-256s of all of its pages, and one in `chunk_place`; its data comes when
/// it is pulled. Saves pass over chunks without data.
struct FetchedPages {
  private static let entriesPerRun = 1 << 20

  private let database: Database
  private let index: PageIndex
  private let data: ChunkPresence
  private let places: ChunkPlaceTable
  private var footers: PackFooters
  /// The packs that the manifest names.
  private let packs: Set<RemoteID>
  private let insert: HotStatement
  private let digests: DigestReader
  private var nextChunkID: Int64
  /// The chunk of an entry, by pack and entry.
  private var chunks: [UInt64: Int64] = [:]
  private var newEntries: [IndexEntry] = []
  private(set) var newChunkCount: UInt64 = 0

  /// - Parameter footers: Of the packs that the manifest names. Chunks that are only in others are not relied on: those
  ///   packs may be gone, or go with the snapshots that name them.
  init(_ database: Database, _ footers: PackFooters, remoteID: Int64) throws {
    self.database = database
    self.footers = footers
    packs = Set(footers.packs)
    index = try PageIndex(database)
    data = try ChunkPresence(database)
    places = try ChunkPlaceTable(database, remoteID: remoteID)
    digests = try DigestReader(database)
    insert = try HotStatement(
      database,
      """
      INSERT INTO chunk (id, page_count, stored_bytes, encoding, optimized, digests, fingerprints)
      VALUES (?, ?, ?, ?, 0, ?, zeroblob(?))
      """
    )
    nextChunkID = try ChunkWriter.nextChunkID(database)
  }

  /// Adds the pages of `count` slots from a place on to a snapshot's extents, and to the digest of its RAM.
  ///
  /// - Throws: As ``pages(_:count:_:)``.
  mutating func add(
    _ place: ManifestFacts.Place,
    count: Int,
    from firstPFN: UInt64,
    to extents: inout ExtentWriter,
    _ digester: inout RAMDigester
  ) throws {
    var pfn = firstPFN
    try pages(place, count: count) { location, digest in
      extents.add(pfn: pfn, at: location, digest: digest)
      digester.add(pfn: pfn, digest: digest)
      pfn += 1
    }
  }

  /// The pages of `count` slots from a place on: where each is in the store, and its digest. Rows are made for those
  /// that are nowhere; the caller has a transaction open.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the pack has no such pages; `DatabaseError`.
  mutating func pages(
    _ place: ManifestFacts.Place,
    count: Int,
    _ body: (PageLocation, PageDigest) -> Void
  ) throws {
    let footer = try footers.footer(Int(place.pack))
    guard Int(place.entry) < footer.entries.count else { throw Self.noPage(footer) }
    let entry = footer.entries[Int(place.entry)]
    guard Int(place.slot) + count <= entry.pageCount else { throw Self.noPage(footer) }
    for slot in Int(place.slot)..<(Int(place.slot) + count) {
      let digest = footer.digest(entry.firstDigest + slot)
      body(try location(place, slot: slot, digest, entry, footer), digest)
    }
  }

  /// Writes the index entries that are left; the caller has a transaction open.
  mutating func finish() throws {
    newEntries.sort()
    try PageIndex.append(newEntries, to: database)
    newEntries = []
  }

  private mutating func location(
    _ place: ManifestFacts.Place,
    slot: Int,
    _ digest: PageDigest,
    _ entry: PackFooter.Entry,
    _ footer: PackFooter
  ) throws -> PageLocation {
    let key = UInt64(place.pack) << 32 | UInt64(place.entry)
    if let chunk = chunks[key] { return PageLocation(chunkID: chunk, slot: slot) }
    let row = footers.rows[Int(place.pack)]
    if let known = try places.chunk(inPack: row, entry: Int(place.entry)) {
      // What a stranger wrote there may be any chunk.
      let location = PageLocation(chunkID: known, slot: slot)
      if try digests.matches(location, digest) { return location }
    }
    if let found = try index.location(of: digest),
      try data.hasData(found.chunkID) || isKept(places.place(ofChunk: found.chunkID))
    {
      return found
    }
    let chunk = try makeRow(place, entry, footer)
    chunks[key] = chunk
    return PageLocation(chunkID: chunk, slot: slot)
  }

  private func isKept(_ place: ChunkPlaceTable.Place?) -> Bool {
    place.map { packs.contains($0.pack) } ?? false
  }

  private mutating func makeRow(
    _ place: ManifestFacts.Place,
    _ entry: PackFooter.Entry,
    _ footer: PackFooter
  ) throws -> Int64 {
    let id = nextChunkID
    nextChunkID += 1
    newChunkCount += 1
    insert.bind(id, at: 1)
    insert.bind(Int64(entry.pageCount), at: 2)
    insert.bind(Int64(entry.storedByteCount), at: 3)
    switch entry.kind {
    case .lz4Chunk: insert.bind("lz4" as StaticString, at: 4)
    default: insert.bind("raw" as StaticString, at: 4)
    }
    insert.bind(Int64(entry.pageCount * PageFingerprinter.byteCount), at: 6)
    let start = entry.firstDigest * PageDigest.byteCount
    let end = start + entry.pageCount * PageDigest.byteCount
    try footer.digests[start..<end].withUnsafeBytes { bytes in
      insert.bind(bytes, at: 5)
      try insert.run()
    }
    try places.insert(
      id,
      inPack: footers.rows[Int(place.pack)],
      entry: Int(place.entry),
      offset: entry.offset
    )
    for slot in 0..<entry.pageCount {
      newEntries.append(
        IndexEntry(
          prefix: footer.digest(entry.firstDigest + slot).prefix,
          location: PageLocation(chunkID: id, slot: slot)
        )
      )
    }
    if newEntries.count >= Self.entriesPerRun { try finish() }
    return id
  }

  private static func noPage(_ footer: PackFooter) -> VMCheckpointError {
    .corrupt("the manifest names a page that pack \(footer.id) does not have")
  }
}
