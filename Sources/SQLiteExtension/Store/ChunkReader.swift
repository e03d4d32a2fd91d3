import CSQLiteExtension
import Glibc
import VMCheckpointCore

/// Decodes chunks, and keeps the last few.
///
/// A kept chunk is found by its id and its pages' digests, so that it is right even when a gc gave
/// the id to another chunk meanwhile.
final class ChunkReader {
  /// A chunk's pages, uncompressed.
  static let byteCapacity = 16 * Page.byteCount

  private let connection: Connection
  private let decoder: LZ4FrameDecoder
  private let data: Statement
  private var chunks: [DecodedChunk] = []
  /// The one that was asked for last.
  private var current: DecodedChunk?
  private let capacity: Int
  private var clock: UInt64 = 0

  /// - Parameter capacity: How many chunks of 64 KiB to keep.
  init(_ connection: Connection, capacity: Int) throws {
    self.connection = connection
    self.capacity = capacity
    decoder = try LZ4FrameDecoder()
    // A longer BLOB than any chunk has is not even loaded.
    data = try Statement(
      connection.database,
      """
      SELECT CASE WHEN length(data) <= \(Self.byteCapacity) THEN data END
        FROM main.chunk_data WHERE chunk_id = ?1
      """,
      isPersistent: true
    )
  }

  /// All of the chunk's pages. They have their fingerprints, or, where these do not agree or are missing,
  /// their SHA-256s.
  ///
  /// - Throws: ``SQLError`` when the chunk's data is missing or damaged.
  func chunk(_ row: ChunkRow) throws -> DecodedChunk {
    let chunk = keep(row)
    if chunk.isChecked { return chunk }
    try load(chunk) { stored in
      if chunk.isCompressed {
        try decode(stored, into: chunk)
      } else {
        try copy(stored, into: chunk)
      }
      if try !chunk.hasFingerprints(row.fingerprints, connection.seed().fingerprinter) {
        for slot in 0..<chunk.pageCount { _ = try chunk.checkedPage(slot) }
      }
    }
    chunk.isChecked = true
    return chunk
  }

  /// The page in a slot of the chunk, its SHA-256 found right; valid until another chunk is read.
  ///
  /// Of a chunk that is not kept, no more is decoded than up to this page, and the frame's checksum,
  /// which is that of all pages, is left alone. Who reads a second page of it may read them all.
  ///
  /// - Throws: ``SQLError`` when the chunk's data is missing or damaged, or has no such slot.
  func page(_ row: ChunkRow, slot: Int) throws -> UnsafeRawBufferPointer {
    guard (0..<row.pageCount).contains(slot) else { throw SQLError.noSlot(slot, chunkID: row.id) }
    let chunk = keep(row)
    if slot >= chunk.decodedPageCount {
      try load(chunk) { stored in
        guard chunk.isCompressed else { return try copy(stored, into: chunk) }
        let pageCount = chunk.decodedPageCount == 0 ? slot + 1 : chunk.pageCount
        let pages = chunk.pages(count: pageCount)
        let isDecoded = try telling(chunk) { () throws(ChunkDamage) in
          try CompressedChunk(stored, pageCount: chunk.pageCount).decodeBeginning(into: pages)
        }
        guard isDecoded else { return try decode(stored, into: chunk) }
        chunk.decodedPageCount = pageCount
      }
    }
    return try chunk.checkedPage(slot)
  }

  /// The kept chunk for `row`, if need be one in which nothing is decoded yet.
  private func keep(_ row: ChunkRow) -> DecodedChunk {
    clock += 1
    if let current, current.holds(row) {
      current.lastUse = clock
      return current
    }
    let chunk: DecodedChunk
    if let kept = chunks.first(where: { $0.holds(row) }) {
      chunk = kept
    } else if chunks.count < capacity {
      chunk = DecodedChunk()
      chunks.append(chunk)
      chunk.begin(row)
    } else {
      chunk = chunks.min { $0.lastUse < $1.lastUse }!
      chunk.begin(row)
    }
    chunk.lastUse = clock
    current = chunk
    return chunk
  }

  /// Calls `body` with the chunk's stored bytes. When that fails, the chunk is not kept.
  private func load(
    _ chunk: DecodedChunk,
    _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    do {
      try data.bind(chunk.id, at: 1)
      defer { data.reset() }
      guard try data.step(), !data.isNull(0) else {
        throw SQLError.corrupt("chunk \(chunk.id): its data is missing or too long")
      }
      let stored = try data.blob(0)
      guard stored.count == chunk.storedByteCount else { throw SQLError.wrongLength(chunk.id) }
      try body(stored)
    } catch {
      chunk.clear()
      throw error
    }
  }

  /// Decodes a whole frame, its checksum found right.
  private func decode(_ stored: UnsafeRawBufferPointer, into chunk: DecodedChunk) throws {
    try telling(chunk) { () throws(ChunkDamage) in
      try CompressedChunk(stored, pageCount: chunk.pageCount)
        .decode(into: chunk.pages(count: chunk.pageCount), with: decoder)
    }
    chunk.decodedPageCount = chunk.pageCount
  }

  /// Runs `body`, and tells which chunk is damaged when it finds one.
  private func telling<Result>(
    _ chunk: DecodedChunk,
    _ body: () throws(ChunkDamage) -> Result
  ) throws -> Result {
    do throws(ChunkDamage) {
      return try body()
    } catch {
      throw SQLError.corrupt("chunk \(chunk.id): \(error)")
    }
  }

  private func copy(_ stored: UnsafeRawBufferPointer, into chunk: DecodedChunk) throws {
    let pages = chunk.pages(count: chunk.pageCount)
    guard stored.count == pages.count else { throw SQLError.wrongLength(chunk.id) }
    pages.copyMemory(from: stored)
    chunk.decodedPageCount = chunk.pageCount
  }
}

extension SQLError {
  fileprivate static func wrongLength(_ chunkID: Int64) -> SQLError {
    .corrupt("chunk \(chunkID): its length is wrong")
  }

  fileprivate static func noSlot(_ slot: Int, chunkID: Int64) -> SQLError {
    .corrupt("chunk \(chunkID) has no slot \(slot)")
  }
}

/// A chunk's pages, or the first of them.
final class DecodedChunk {
  private(set) var id: Int64 = 0
  private(set) var pageCount = 0
  fileprivate private(set) var isCompressed = false
  fileprivate private(set) var storedByteCount = 0
  /// Pages from slot 0 on that are there.
  fileprivate var decodedPageCount = 0
  /// Whether all pages are there and have been found right.
  fileprivate var isChecked = false
  fileprivate var lastUse: UInt64 = 0
  private var checkedSlots: UInt16 = 0
  private let allPages: UnsafeMutableRawBufferPointer
  private let digests: UnsafeMutableRawBufferPointer

  fileprivate init() {
    allPages = .allocate(byteCount: ChunkReader.byteCapacity, alignment: Page.byteCount)
    digests = .allocate(byteCount: 16 * PageDigest.byteCount, alignment: 64)
  }

  deinit {
    allPages.deallocate()
    digests.deallocate()
  }

  fileprivate func pages(count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: allPages[..<(count * Page.byteCount)])
  }

  fileprivate func holds(_ row: ChunkRow) -> Bool {
    id == row.id && pageCount == row.pageCount && isCompressed == row.isCompressed
      && storedByteCount == row.storedByteCount
      && UnsafeRawBufferPointer(rebasing: digests[..<row.digests.count]).isEqual(to: row.digests)
  }

  fileprivate func begin(_ row: ChunkRow) {
    id = row.id
    pageCount = row.pageCount
    isCompressed = row.isCompressed
    storedByteCount = row.storedByteCount
    decodedPageCount = 0
    isChecked = false
    checkedSlots = 0
    digests.copyMemory(from: row.digests)
  }

  fileprivate func clear() {
    id = 0
    pageCount = 0
    decodedPageCount = 0
    isChecked = false
  }

  /// The pages in `count` slots from `slot` on, 4096 bytes each; valid until another chunk is read.
  ///
  /// - Throws: ``SQLError`` when the chunk has no such slots.
  func pages(from slot: Int, count: Int) throws -> UnsafeRawBufferPointer {
    guard slot >= 0, count >= 0, slot + count <= decodedPageCount else {
      throw SQLError.noSlot(slot + count - 1, chunkID: id)
    }
    let start = slot * Page.byteCount
    return UnsafeRawBufferPointer(rebasing: allPages[start..<(start + count * Page.byteCount)])
  }

  /// Whether all pages are there and have these fingerprints.
  fileprivate func hasFingerprints(
    _ fingerprints: UnsafeRawBufferPointer?,
    _ fingerprinter: PageFingerprinter
  ) -> Bool {
    guard let fingerprints, decodedPageCount == pageCount else { return false }
    let pages = UnsafeRawBufferPointer(pages(count: pageCount))
    return fingerprinter.firstMismatch(pages, fingerprints) == nil
  }

  /// The page in `slot`, its SHA-256 compared with its digest; valid until another chunk is read.
  ///
  /// - Throws: ``SQLError`` when they differ, or the chunk has no such slot.
  fileprivate func checkedPage(_ slot: Int) throws -> UnsafeRawBufferPointer {
    let page = try pages(from: slot, count: 1)
    guard checkedSlots & 1 << UInt16(slot) == 0 else { return page }
    let digest = PageDigest(
      loadingFrom: UnsafeRawPointer(digests.baseAddress! + slot * PageDigest.byteCount)
    )
    guard PageDigest(of: page) == digest else {
      throw SQLError.corrupt("chunk \(id): the page in slot \(slot) does not have its SHA-256")
    }
    checkedSlots |= 1 << UInt16(slot)
    return page
  }
}

extension UnsafeRawBufferPointer {
  fileprivate func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
    count == other.count && (isEmpty || memcmp(baseAddress!, other.baseAddress!, count) == 0)
  }
}
