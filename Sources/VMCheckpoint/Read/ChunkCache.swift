import Glibc

/// Decoded chunks that all readers of the process share, in a bounded arena.
///
/// Of threads that want one chunk together, one decodes it and the others wait. A chunk that somebody reads
/// is not given up; of the others, those go first that were not used since the cache came by last (CLOCK).
///
/// A chunk is found by its store's seed and its number. Copies of a store have one seed, and may give one
/// number to different chunks. So readers of the cache check what it holds, by the SHA-256s that are
/// beside the pages (``ExtentCheck``).
public final class ChunkCache: Sendable {
  /// 64 MiB, made when it is first used.
  public static let shared = Result { () throws(VMCheckpointError) in
    try ChunkCache(byteCapacity: 64 << 20)
  }

  struct Key: Hashable {
    var seed: StoreSeed
    var chunkID: Int64
  }

  /// One chunk's place in the arena.
  struct Slot {
    fileprivate let index: Int
    /// 64 KiB.
    let pages: UnsafeMutableRawBufferPointer
    /// 32 bytes for each page.
    let digests: UnsafeMutableRawBufferPointer
  }

  private struct Entry {
    var key: Key?
    var isLoading = false
    var pageCount = 0
    var userCount = 0
    var wasUsed = false
  }

  private struct State {
    var entries: [Entry]
    var indexes: [Key: Int] = [:]
    var hand = 0
    var decodedCount: UInt64 = 0
  }

  private static let slotByteCount =
    ChunkFormat.byteCapacity + ChunkFormat.pageCapacity * PageDigest.byteCount
  private static let populatedByteCount = 512 << 10
  private static var changed: Monitor.Condition { .init(0) }

  private let monitor = Monitor(conditionCount: 1)
  // Only under the monitor.
  private nonisolated(unsafe) var state: State
  private nonisolated(unsafe) let arena: UnsafeMutableRawBufferPointer

  /// Makes an empty cache, whose memory comes as it is used.
  ///
  /// - Parameter byteCapacity: What decoded chunks may take; one chunk of 64 KiB at least.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  public init(byteCapacity: Int) throws(VMCheckpointError) {
    let count = max(1, byteCapacity / Self.slotByteCount)
    arena = try LargeMemory.allocate(byteCount: count * Self.slotByteCount)
    state = State(entries: Array(repeating: Entry(), count: count))
    state.indexes.reserveCapacity(count)
  }

  deinit { LargeMemory.free(arena) }

  /// Gets all of the memory, so that no page fault comes in the way of a reader that somebody waits for: some
  /// milliseconds for 16 MiB. Others may use the cache meanwhile.
  func populate() {
    // In pieces: the kernel keeps other threads from mapping memory while it is at one, for 9 ms if that is all of it.
    // Where it has no such call, pages come with their first use.
    for offset in stride(from: 0, to: arena.count, by: Self.populatedByteCount) {
      let byteCount = min(Self.populatedByteCount, arena.count - offset)
      _ = madvise(arena.baseAddress! + offset, byteCount, CInt(MADV_POPULATE_WRITE))
    }
  }

  /// How many chunks were decoded into the cache.
  public var decodedChunkCount: UInt64 { monitor.withLock { state.decodedCount } }

  /// Calls `body` with a chunk's pages and their SHA-256s, which nobody changes meanwhile.
  ///
  /// - Parameter load: Fills a slot with the chunk, and returns the number of its pages; called when it is
  ///   not in the cache.
  /// - Throws: What `load` throws, and then nothing is kept; what `body` throws.
  func withChunk<Result>(
    _ key: Key,
    load: (Slot) throws -> Int,
    _ body: (_ pages: UnsafeRawBufferPointer, _ digests: UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    let (index, isLoaded) = take(key)
    if !isLoaded {
      do {
        finishLoading(index, pageCount: try load(slot(index)))
      } catch {
        abandon(index)
        throw error
      }
    }
    return try use(index, body)
  }

  /// As ``withChunk(_:load:_:)``, where the chunk is in the cache and decoded; otherwise `nil`, at once.
  func withChunkIfLoaded<Result>(
    _ key: Key,
    _ body: (_ pages: UnsafeRawBufferPointer, _ digests: UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result? {
    let index = monitor.withLock { () -> Int? in
      guard let index = state.indexes[key], !state.entries[index].isLoading else { return nil }
      state.entries[index].userCount += 1
      state.entries[index].wasUsed = true
      return index
    }
    guard let index else { return nil }
    return try use(index, body)
  }

  /// Calls `body` with what is in an entry that is in use by the caller, and gives it back.
  private func use<Result>(
    _ index: Int,
    _ body: (_ pages: UnsafeRawBufferPointer, _ digests: UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    let slot = slot(index)
    let pageCount = monitor.withLock { state.entries[index].pageCount }
    defer { release(index) }
    return try body(
      UnsafeRawBufferPointer(rebasing: slot.pages[..<(pageCount * Page.byteCount)]),
      UnsafeRawBufferPointer(rebasing: slot.digests[..<(pageCount * PageDigest.byteCount)])
    )
  }

  /// Forgets a chunk, once nobody reads it.
  func remove(_ key: Key) {
    monitor.withLock {
      while let index = state.indexes[key] {
        guard state.entries[index].isLoading || state.entries[index].userCount > 0 else {
          state.indexes[key] = nil
          state.entries[index] = Entry()
          monitor.wakeAll(Self.changed)
          return
        }
        monitor.wait(for: Self.changed)
      }
    }
  }

  private func slot(_ index: Int) -> Slot {
    let start = index * Self.slotByteCount
    let end = start + Self.slotByteCount
    let middle = start + ChunkFormat.byteCapacity
    return Slot(
      index: index,
      pages: UnsafeMutableRawBufferPointer(rebasing: arena[start..<middle]),
      digests: UnsafeMutableRawBufferPointer(rebasing: arena[middle..<end])
    )
  }

  /// The chunk's entry, in use by the caller, or a free one for it that the caller is to load.
  private func take(_ key: Key) -> (index: Int, isLoaded: Bool) {
    monitor.withLock {
      while true {
        if let index = state.indexes[key] {
          if !state.entries[index].isLoading {
            state.entries[index].userCount += 1
            state.entries[index].wasUsed = true
            return (index, true)
          }
        } else if let index = freeIndex() {
          if let old = state.entries[index].key { state.indexes[old] = nil }
          state.entries[index] = Entry(key: key, isLoading: true, userCount: 1, wasUsed: true)
          state.indexes[key] = index
          return (index, false)
        }
        monitor.wait(for: Self.changed)
      }
    }
  }

  /// An entry that nobody uses; `nil` when there is none.
  private func freeIndex() -> Int? {
    // Twice round: the first time takes the marks away.
    for _ in 0..<(2 * state.entries.count) {
      let index = state.hand
      state.hand = (state.hand + 1) % state.entries.count
      guard state.entries[index].userCount == 0 else { continue }
      if !state.entries[index].wasUsed { return index }
      state.entries[index].wasUsed = false
    }
    return nil
  }

  private func finishLoading(_ index: Int, pageCount: Int) {
    monitor.withLock {
      state.entries[index].isLoading = false
      state.entries[index].pageCount = pageCount
      state.decodedCount += 1
      monitor.wakeAll(Self.changed)
    }
  }

  private func abandon(_ index: Int) {
    monitor.withLock {
      if let key = state.entries[index].key { state.indexes[key] = nil }
      state.entries[index] = Entry()
      monitor.wakeAll(Self.changed)
    }
  }

  private func release(_ index: Int) {
    monitor.withLock {
      state.entries[index].userCount -= 1
      if state.entries[index].userCount == 0 { monitor.wakeAll(Self.changed) }
    }
  }
}
