import GRDB

/// A chunk that came from a remote, in its stored form, whose pages have their SHA-256s.
struct BroughtChunk: Sendable {
  var part: ChunkRange.Part
  var stored: [UInt8]
  /// 8 bytes for each page.
  var fingerprints: [UInt8]

  /// Copies it to where a chunk of the store would be loaded.
  func load(into buffer: ChunkBuffer) {
    buffer.begin(chunkID: part.chunkID)
    buffer.pageCount = part.pageCount
    buffer.encoding = part.encoding
    buffer.storedByteCount = stored.count
    stored.withUnsafeBytes { buffer.stored.copyMemory(from: $0) }
    part.digests.withUnsafeBytes { buffer.digests.copyMemory(from: $0) }
    fingerprints.withUnsafeBytes { buffer.fingerprints.copyMemory(from: $0) }
    buffer.hasFingerprints = true
  }
}

/// Chunks that came, in memory until they are rows of the store, and for a while after that.
///
/// A commit waits for the disk, and readers of the store wait for the commit. So whoever needs a page gets it from here,
/// and one thread writes what came, some megabytes at a time, when nobody waits for pages.
///
/// Thread-safe.
final class BroughtChunks: Sendable {
  private static let changed = Monitor.Condition(0)
  /// What is kept in memory.
  private static let byteLimit = 12 << 20
  /// More than this is not left unwritten: then the writer waits for nobody, and prefetching waits for it.
  private static let unwrittenByteLimit = 8 << 20
  private static let writtenAtOnceByteCount = 4 << 20
  /// How long less than that waits to be written.
  private static let writeSeconds = 0.5
  private static let retrySeconds = 0.2
  /// How long it waits for a collection that has the chunks for itself, before it tries again.
  private static let lockSeconds = 5.0

  private struct State {
    var chunks: [Int64: BroughtChunk] = [:]
    var byteCount = 0
    /// What may be given up, oldest first.
    var written: [Int64] = []
    var unwritten: [BroughtChunk] = []
    var unwrittenByteCount = 0
    /// When the first of them came.
    var since = 0.0
    /// How many wait for pages.
    var waiterCount = 0
    var isClosed = false
  }

  private let location: String
  private let warn: @Sendable (String) -> Void
  private let monitor = Monitor(conditionCount: 1)
  // Guarded by `monitor`.
  private nonisolated(unsafe) var state = State()

  /// - Parameter path: The store, which gets a connection of its own for this.
  init(storePath path: String, warn: @escaping @Sendable (String) -> Void) {
    location = path
    self.warn = warn
  }

  /// A chunk that came, as long as it is in memory.
  func chunk(_ id: Int64) -> BroughtChunk? { monitor.withLock { state.chunks[id] } }

  /// Takes what came. Each chunk can be read from now on.
  func add(_ range: ChunkRange) {
    var chunks: [BroughtChunk] = []
    var start = 0
    for part in range.parts {
      let end = start + part.pageCount * PageFingerprinter.byteCount
      chunks.append(
        BroughtChunk(
          part: part,
          stored: Array(range.stored(part)),
          fingerprints: Array(range.fingerprints[start..<end])
        )
      )
      start = end
    }
    monitor.withLock {
      if state.unwritten.isEmpty { state.since = MonotonicClock.nowSeconds }
      for chunk in chunks where state.chunks[chunk.part.chunkID] == nil {
        state.chunks[chunk.part.chunkID] = chunk
        state.unwritten.append(chunk)
        state.byteCount += chunk.stored.count
        state.unwrittenByteCount += chunk.stored.count
      }
      makeRoom()
      monitor.wakeAll(Self.changed)
    }
  }

  /// Whether there is room for what nobody waits for: not while too much is not written yet.
  var hasRoom: Bool {
    monitor.withLock { state.unwrittenByteCount <= Self.unwrittenByteLimit }
  }

  /// Somebody begins to wait for pages, or has got them.
  func addWaiter(_ count: Int) {
    monitor.withLock {
      state.waiterCount += count
      monitor.wakeAll(Self.changed)
    }
  }

  /// Lets the writing thread end once all is written.
  func close() {
    monitor.withLock {
      state.isClosed = true
      monitor.wakeAll(Self.changed)
    }
  }

  // MARK: The thread that writes

  /// Makes rows of what comes, until ``close()``.
  func write() {
    var store: Store?
    while let chunks = takeUnwritten() {
      do throws(VMCheckpointError) {
        if store == nil { store = try Store.open(at: location) }
        try write(chunks, store!)
        note(chunks)
      } catch {
        let mayTryAgain = error.code == .locked && !monitor.withLock { state.isClosed }
        guard mayTryAgain else {
          // They come again when they are needed again.
          warn("cannot keep pages that came from a remote: \(error.message)")
          note(chunks)
          continue
        }
        putBack(chunks)
      }
    }
  }

  private func write(_ chunks: [BroughtChunk], _ store: Store) throws(VMCheckpointError) {
    let lock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: store.location,
      cancellation: CancellationFlag(lockWaitSeconds: Self.lockSeconds)
    )
    defer { lock.release() }
    try store.write { database in
      let writer = try BroughtChunkWriter(database)
      for chunk in chunks {
        try chunk.stored.withUnsafeBytes { stored in
          try writer.write(chunk.part.chunkID, stored, chunk.fingerprints[...])
        }
      }
    }
  }

  /// - Returns: `nil` at the end.
  private func takeUnwritten() -> [BroughtChunk]? {
    monitor.withLock {
      while !isTimeToWrite {
        if state.isClosed { return nil }
        if state.unwritten.isEmpty {
          monitor.wait(for: Self.changed)
        } else {
          _ = monitor.wait(
            for: Self.changed,
            untilSeconds: max(state.since + Self.writeSeconds, MonotonicClock.nowSeconds + 0.01)
          )
        }
      }
      var count = 0
      var byteCount = 0
      while count < state.unwritten.count, byteCount < Self.writtenAtOnceByteCount {
        byteCount += state.unwritten[count].stored.count
        count += 1
      }
      let chunks = Array(state.unwritten[..<count])
      state.unwritten.removeFirst(count)
      return chunks
    }
  }

  private var isTimeToWrite: Bool {
    guard !state.unwritten.isEmpty else { return false }
    if state.isClosed || state.unwrittenByteCount >= Self.unwrittenByteLimit { return true }
    return state.waiterCount == 0
      && (state.unwrittenByteCount >= Self.writtenAtOnceByteCount
        || MonotonicClock.nowSeconds >= state.since + Self.writeSeconds)
  }

  private func note(_ chunks: [BroughtChunk]) {
    monitor.withLock {
      for chunk in chunks {
        state.unwrittenByteCount -= chunk.stored.count
        state.written.append(chunk.part.chunkID)
      }
      state.since = MonotonicClock.nowSeconds
      makeRoom()
      monitor.wakeAll(Self.changed)
    }
  }

  private func putBack(_ chunks: [BroughtChunk]) {
    monitor.withLock {
      state.unwritten.insert(contentsOf: chunks, at: 0)
      let deadline = MonotonicClock.nowSeconds + Self.retrySeconds
      while MonotonicClock.nowSeconds < deadline, !state.isClosed,
        monitor.wait(for: Self.changed, untilSeconds: deadline)
      {}
    }
  }

  private func makeRoom() {
    var count = 0
    while state.byteCount > Self.byteLimit, count < state.written.count {
      if let chunk = state.chunks.removeValue(forKey: state.written[count]) {
        state.byteCount -= chunk.stored.count
      }
      count += 1
    }
    state.written.removeFirst(count)
  }
}
