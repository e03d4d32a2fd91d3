/// Extents with their chunks' pages, one after another. A thread decodes chunks ahead.
///
/// What is wrong with the store is reported after all that comes before it has been given.
package final class ChunkStream<Database: StoreDatabase> {
  /// Gives the next extent with its chunk's row, both checked, which is valid until the next call; `nil` after the last.
  package typealias Source = () throws -> (extent: Extent, chunk: ChunkRow)?

  /// An extent that has been read.
  private struct Entry {
    var extent: Extent
    var chunk: DecodedChunk
    /// What the thread is to finish.
    var number: Int?
  }

  private let source: Source
  private let chunks: DecodedChunks<Database>
  private let thread: DecodingThread
  private var ahead: ArraySlice<Entry> = []
  private var isAtEnd = false
  private var failure: (any Error)?

  /// Extents come in order of address and name chunks in any: 4 MiB of them decoded keep most from being decoded twice.
  /// What is read ahead is never among those that were used least lately.
  private static var chunkCapacity: Int { 64 }

  /// - Throws: What keeps the store from being read.
  package init(_ reader: StoreReader<Database>, _ source: @escaping Source) throws {
    self.source = source
    chunks = try DecodedChunks(reader, capacity: Self.chunkCapacity)
    thread = try DecodingThread(reader.seed().fingerprinter)
  }

  deinit { thread.end() }

  /// The next extent, and its pages, 4096 bytes each, valid until the next call; `nil` after the last one.
  ///
  /// - Throws: What the source throws; ``VMCheckpointError`` with the code `corrupt` when a chunk's data is missing or
  ///   damaged. Each later call throws it again.
  package func next() throws -> (extent: Extent, pages: UnsafeRawBufferPointer)? {
    if !isAtEnd, ahead.count <= DecodingThread.capacity / 2 { readAhead() }
    guard let entry = ahead.popFirst() else {
      if let failure { throw failure }
      return nil
    }
    do {
      if let number = entry.number { try thread.finish(number) }
      let (slot, count) = (Int(entry.extent.firstSlot), Int(entry.extent.pageCount))
      return (entry.extent, try entry.chunk.pages(from: slot, count: count))
    } catch {
      isAtEnd = true
      ahead = []
      failure = error
      throw error
    }
  }

  private func readAhead() {
    do {
      while ahead.count < DecodingThread.capacity {
        guard let (extent, row) = try source() else {
          isAtEnd = true
          return
        }
        let (chunk, number) = try chunks.begin(row, on: thread)
        ahead.append(Entry(extent: extent, chunk: chunk, number: number))
      }
    } catch {
      failure = error
      isAtEnd = true
    }
  }
}
