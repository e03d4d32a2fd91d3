/// A snapshot's bare RAM, through a ``StoreReader``. Each page has its fingerprint or SHA-256.
///
/// Keeps the pages that were read last, and where pages are stored. Both are of one snapshot, whose content
/// never changes; where it is stored may, and ``refresh()`` looks for that.
package final class StoredGuestRAM<Database: StoreDatabase>: GuestRAM {
  /// A part of an extent.
  private struct Run {
    var firstPFN: UInt64
    var chunkID: Int64
    var firstSlot: UInt8
    var pageCount: UInt8
  }

  package let layout: RAMLayout
  package let snapshot: StoredSnapshot
  /// What the dump left out.
  package let absent: AbsentPages
  package var absentPageCount: UInt64 { absent.pageCount }

  package private(set) var loadCount = 0

  private let reader: StoreReader<Database>
  private let chunks: DecodedChunks<Database>
  private let cache: PageCache
  /// Runs by the PFN's upper bits, as they are asked for.
  private var blocks: [UInt64: [Run]] = [:]
  private var runCount = 0
  private var version: Int64

  /// A block has 2 MiB of RAM: one query reads where they are stored.
  private static var blockShift: UInt64 { 9 }
  /// 32 MiB of runs.
  private static var runLimit: Int { 1 << 20 }
  /// Random reads: few of them come back to a chunk after others.
  private static var chunkCapacity: Int { 8 }

  /// - Parameter cacheByteLimit: How much memory kept pages may take.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when the snapshot is damaged.
  package init(
    _ reader: StoreReader<Database>,
    _ snapshot: StoredSnapshot,
    cacheByteLimit: Int = 48 << 20
  ) throws {
    self.reader = reader
    self.snapshot = snapshot
    layout = try reader.layout(of: snapshot)
    absent = try reader.absentPages(of: snapshot, in: layout)
    chunks = try DecodedChunks(reader, capacity: Self.chunkCapacity)
    cache = PageCache(byteLimit: cacheByteLimit)
    version = try reader.dataVersion()
    // A lost extent would read as zeros.
    try reader.requireAllExtents(of: snapshot)
  }

  /// Forgets where pages are stored when the store has changed.
  package func refresh() throws {
    let current = try reader.dataVersion()
    guard current != version else { return }
    forgetPlaces()
    try reader.requireAllExtents(of: snapshot)
    version = current
  }

  /// Steps a statement, which throws when the host interrupts.
  package func poll() throws { _ = try reader.seed() }

  package func page(_ pfn: UInt64) throws -> UnsafeRawPointer? {
    if let page = cache.find(pfn) { return page }
    guard pfn <= PFN.max.rawValue, layout.contains(PFN(unchecked: pfn)),
      !absent.contains(PFN(unchecked: pfn))
    else { return nil }
    guard let run = try run(holding: pfn) else { return zeroGuestPage }
    do {
      return try load(run, pfn)
    } catch let error as VMCheckpointError where error.isDamage {
      // Another process may have moved the chunk.
      forgetPlaces()
      guard let run = try self.run(holding: pfn) else { throw error }
      return try load(run, pfn)
    }
  }

  package func visitPages(
    from pfn: UInt64,
    _ body: (UInt64, UnsafeRawPointer) throws -> Bool
  ) throws {
    let reach = UInt64(ExtentQuery.reach)
    var extents = try ExtentReader(
      reader.database,
      snapshotID: snapshot.id,
      firstPFN: pfn - min(pfn, reach),
      withChunks: true
    )
    defer { extents.reset() }
    let check = ExtentCheck(try reader.seed(), snapshot: snapshot.uuid)
    let stream = try ChunkStream(reader) { [snapshot] in
      guard let extent = try extents.next() else { return nil }
      let row = try extents.chunk(of: extent)
      try extent.check(row, of: snapshot, with: check)
      return (extent, row)
    }
    while let (extent, pages) = try stream.next() {
      for index in 0..<Int(extent.pageCount) {
        let number = extent.firstPFN + UInt64(index)
        guard number >= pfn else { continue }
        guard try body(number, pages.baseAddress! + index * Page.byteCount) else { return }
      }
    }
  }

  package func places(
    of digests: Set<PageDigest>,
    limit: Int
  ) throws -> [(pfn: UInt64, digest: PageDigest)] {
    guard !digests.isEmpty else { return [] }
    // Few pages have a prefix that one of the digests has.
    let prefixes = Set(digests.map(\.prefix))
    var extents = try ExtentReader(reader.database, snapshotID: snapshot.id, withChunks: true)
    defer { extents.reset() }
    let check = ExtentCheck(try reader.seed(), snapshot: snapshot.uuid)
    var places: [(pfn: UInt64, digest: PageDigest)] = []
    while places.count < limit, let extent = try extents.next() {
      let row = try extents.chunk(of: extent)
      try extent.check(row, of: snapshot, with: check)
      for index in 0..<Int(extent.pageCount) {
        let digest = try row.digest(Int(extent.firstSlot) + index)
        guard prefixes.contains(digest.prefix), digests.contains(digest) else { continue }
        places.append((extent.firstPFN + UInt64(index), digest))
      }
    }
    return Array(places.prefix(limit))
  }

  private func forgetPlaces() {
    blocks = [:]
    runCount = 0
  }

  /// Decodes the run's chunk, and keeps all of the run's pages.
  private func load(_ run: Run, _ pfn: UInt64) throws -> UnsafeRawPointer {
    loadCount += 1
    let statement = try reader.statement(.chunk)
    try statement.bind(run.chunkID, at: 1)
    guard try statement.step() else {
      throw VMCheckpointError.corrupt("chunk \(run.chunkID) is missing")
    }
    defer { statement.reset() }
    let row = try ChunkRow(statement, id: run.chunkID, at: 0)
    let chunk = try chunks.chunk(row)
    let pages = try chunk.pages(from: Int(run.firstSlot), count: Int(run.pageCount))
    for index in 0..<Int(run.pageCount) {
      let number = run.firstPFN + UInt64(index)
      guard number != pfn, cache.find(number) == nil else { continue }
      try cache.insert(number)
        .copyMemory(from: pages.baseAddress! + index * Page.byteCount, byteCount: Page.byteCount)
    }
    let page = try cache.insert(pfn)
    page.copyMemory(
      from: pages.baseAddress! + Int(pfn - run.firstPFN) * Page.byteCount,
      byteCount: Page.byteCount
    )
    return UnsafeRawPointer(page)
  }

  /// The run that holds the page; `nil` where the page is zero.
  private func run(holding pfn: UInt64) throws -> Run? {
    let number = pfn >> Self.blockShift
    let runs = try blocks[number] ?? readBlock(number)
    var (low, high) = (0, runs.count)
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].firstPFN + UInt64(runs[middle].pageCount) <= pfn {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low < runs.count && runs[low].firstPFN <= pfn ? runs[low] : nil
  }

  private func readBlock(_ number: UInt64) throws -> [Run] {
    let first = number << Self.blockShift
    let last = first + (1 << Self.blockShift) - 1
    let statement = try reader.statement(.extentsOfRange)
    defer { statement.reset() }
    try statement.bind(snapshot.id, at: 1)
    try statement.bind(Int64(first - min(first, UInt64(ExtentQuery.reach))), at: 2)
    try statement.bind(Int64(last), at: 3)
    let check = ExtentCheck(try reader.seed(), snapshot: snapshot.uuid)
    var runs: [Run] = []
    var nextFreePFN: UInt64 = 0
    while try statement.step() {
      let extent = try Extent(statement)
      guard extent.firstPFN >= nextFreePFN else {
        throw Extent.damaged(firstPFN: Int64(extent.firstPFN))
      }
      nextFreePFN = extent.endPFN
      let row = try ChunkRow(statement, id: extent.chunkID, at: ExtentQuery.chunkColumn)
      try extent.check(row, of: snapshot, with: check)
      guard extent.endPFN > first else { continue }
      runs.append(
        Run(
          firstPFN: extent.firstPFN,
          chunkID: extent.chunkID,
          firstSlot: extent.firstSlot,
          pageCount: extent.pageCount
        )
      )
    }
    if runCount + runs.count > Self.runLimit { forgetPlaces() }
    runCount += runs.count
    blocks[number] = runs
    return runs
  }
}
