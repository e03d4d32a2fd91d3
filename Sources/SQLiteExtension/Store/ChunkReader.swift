import CSQLiteExtension
import Glibc

/// Decodes chunks, and keeps the last few.
///
/// A kept chunk is found by its id and its pages' digests, so that it is right even when a gc gave
/// the id to another chunk meanwhile.
final class ChunkReader {
  /// A chunk's pages, uncompressed.
  static let byteCapacity = 16 * Page.byteCount

  private let decoder: LZ4FrameDecoder
  private let data: Statement
  private var chunks: [DecodedChunk] = []
  private let capacity: Int
  private var clock: UInt64 = 0

  /// - Parameter capacity: How many chunks of 64 KiB to keep.
  init(_ connection: Connection, capacity: Int) throws {
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

  /// The chunk's pages. The frame's checksum has been found right, or the digests of a raw chunk;
  /// ``DecodedChunk/checkedPage(_:)`` compares single pages with their digests.
  ///
  /// - Throws: ``SQLError`` when the chunk's data is missing or damaged.
  func chunk(_ row: ChunkRow) throws -> DecodedChunk {
    clock += 1
    if let chunk = chunks.first(where: { $0.holds(row) }) {
      chunk.lastUse = clock
      return chunk
    }
    let chunk: DecodedChunk
    if chunks.count < capacity {
      chunk = DecodedChunk()
      chunks.append(chunk)
    } else {
      chunk = chunks.min { $0.lastUse < $1.lastUse }!
    }
    chunk.begin(row)
    do {
      try load(chunk)
    } catch {
      chunk.clear()
      throw error
    }
    chunk.lastUse = clock
    return chunk
  }

  private func load(_ chunk: DecodedChunk) throws {
    try data.bind(chunk.id, at: 1)
    defer { data.reset() }
    guard try data.step(), !data.isNull(0) else {
      throw SQLError.corrupt("chunk \(chunk.id): its data is missing or too long")
    }
    let stored = try data.blob(0)
    guard stored.count == chunk.storedByteCount else {
      throw SQLError.corrupt("chunk \(chunk.id): its length is wrong")
    }
    if chunk.isCompressed {
      if let problem = decoder.decompress(stored, into: chunk.pages) {
        throw SQLError.corrupt("chunk \(chunk.id): its LZ4 frame is damaged (\(problem))")
      }
      return
    }
    guard stored.count == chunk.pages.count else {
      throw SQLError.corrupt("chunk \(chunk.id): its length is wrong")
    }
    chunk.pages.copyMemory(from: stored)
    // Raw pages have no checksum but this.
    for slot in 0..<chunk.pageCount { _ = try chunk.checkedPage(slot) }
  }
}

/// A chunk's pages.
final class DecodedChunk {
  private(set) var id: Int64 = 0
  private(set) var pageCount = 0
  fileprivate var isCompressed = false
  fileprivate var storedByteCount = 0
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

  fileprivate var pages: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: allPages[..<(pageCount * Page.byteCount)])
  }

  fileprivate func holds(_ row: ChunkRow) -> Bool {
    id == row.id && pageCount == row.pageCount && isCompressed == row.isCompressed
      && memcmp(row.digests.baseAddress!, digests.baseAddress!, row.digests.count) == 0
  }

  fileprivate func begin(_ row: ChunkRow) {
    id = row.id
    pageCount = row.pageCount
    isCompressed = row.isCompressed
    storedByteCount = row.storedByteCount
    checkedSlots = 0
    digests.copyMemory(from: row.digests)
  }

  fileprivate func clear() {
    id = 0
    pageCount = 0
  }

  /// The pages in `count` slots from `slot` on, 4096 bytes each; valid until another chunk is read.
  ///
  /// - Throws: ``SQLError`` when the chunk has no such slots.
  func pages(from slot: Int, count: Int) throws -> UnsafeRawBufferPointer {
    guard slot >= 0, count >= 0, slot + count <= pageCount else {
      throw SQLError.corrupt("chunk \(id) has no slot \(slot + count - 1)")
    }
    let start = slot * Page.byteCount
    return UnsafeRawBufferPointer(rebasing: allPages[start..<(start + count * Page.byteCount)])
  }

  /// The page in `slot`, its SHA-256 compared with its digest; valid until another chunk is read.
  ///
  /// - Throws: ``SQLError`` when they differ, or the chunk has no such slot.
  func checkedPage(_ slot: Int) throws -> UnsafeRawBufferPointer {
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
