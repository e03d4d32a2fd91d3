import GRDB
import Glibc
import Synchronization

/// Brings chunks out of remotes when a reader asks for one, for as long as it takes: a VM that runs from a snapshot waits
/// while its remote cannot be reached, and never reads anything else.
///
/// What came becomes ordinary rows of the store. With each chunk come those behind it in its pack, the more the longer
/// readers go on in order.
///
/// Thread-safe: several chunks are brought at once, and no chunk twice.
final class RemoteSupply: Sendable {
  private static let arrived = Monitor.Condition(0)
  /// What comes with one chunk at first.
  private static let firstByteCount = 256 << 10
  private static let retrySeconds = 1.0

  private struct State {
    var links: [Int64: RemoteLink] = [:]
    var inFlight = Set<Int64>()
    var free: [Worker] = []
    /// Where the last range ended, and how long the next one is that goes on there.
    var next: [RemoteID: (offset: UInt64, byteCount: Int)] = [:]
  }

  /// What one request needs; used by one thread at a time.
  private struct Worker: @unchecked Sendable {
    let range: ChunkRange
    let chunk: ChunkBuffer
    let decoder: LZ4FrameDecoder
  }

  /// What is known of a chunk that is only in a remote.
  private struct Place {
    var remote: RemoteRow
    var pack: RemoteID
    var packRow: Int64
    var offset: UInt64
  }

  private let store: Store
  private let seed: StoreSeed
  private let monitor = Monitor(conditionCount: 1)
  // Guarded by `monitor`.
  private nonisolated(unsafe) var state = State()

  /// - Parameter store: May be open for reading only: then nothing can be brought.
  init(_ store: Store, _ seed: StoreSeed) {
    self.store = store
    self.seed = seed
  }

  /// Brings a chunk's data, if it is in a remote of the store.
  ///
  /// - Returns: `false` when the chunk is gone, or in no remote.
  /// - Throws: ``VMCheckpointError``: `permissionDenied` when the store may not be written, or the remote is not confirmed;
  ///   `notFound` when the pack is gone; `corrupt`; as ``RemoteTransport``, but for a server that cannot be reached.
  func bring(_ chunkID: Int64) throws(VMCheckpointError) -> Bool {
    while true {
      let isMine = monitor.withLock {
        if state.inFlight.insert(chunkID).inserted { return true }
        while state.inFlight.contains(chunkID) { monitor.wait(for: Self.arrived) }
        return false
      }
      guard isMine else {
        // Another thread brought it, or failed to.
        if try hasData(chunkID) { return true }
        continue
      }
      defer { land([chunkID]) }
      if try hasData(chunkID) { return true }
      guard let place = try place(of: chunkID) else { return false }
      return try bring(chunkID, place)
    }
  }

  private func land(_ chunkIDs: [Int64]) {
    monitor.withLock {
      state.inFlight.subtract(chunkIDs)
      monitor.wakeAll(Self.arrived)
    }
  }

  private func hasData(_ chunkID: Int64) throws(VMCheckpointError) -> Bool {
    try store.read { try ChunkPresence($0).hasData(chunkID) }
  }

  private func place(of chunkID: Int64) throws(VMCheckpointError) -> Place? {
    try store.read { database in
      let remotes = try RemoteTable(database).all()
      guard !remotes.isEmpty else { return nil }
      let row = try Row.fetchOne(
        database,
        sql: """
          SELECT p.remote_id, p.name, p.id, c.offset
            FROM chunk_place c JOIN remote_pack p ON p.id = c.pack_id JOIN chunk k ON k.id = c.chunk_id
           WHERE c.chunk_id = ? ORDER BY p.id LIMIT 1
          """,
        arguments: [chunkID]
      )
      guard let row, let pack = RemoteID(try row.value(at: 1) as String) else { return nil }
      let remoteID: Int64 = try row.value(at: 0)
      guard let remote = remotes.first(where: { $0.id == remoteID }) else { return nil }
      return Place(
        remote: remote,
        pack: pack,
        packRow: try row.value(at: 2),
        offset: UInt64(clamping: try row.value(at: 3) as Int64)
      )
    }
  }

  private func bring(_ chunkID: Int64, _ place: Place) throws(VMCheckpointError) -> Bool {
    let worker = try takeWorker()
    defer { monitor.withLock { state.free.append(worker) } }
    let others = try fill(worker.range, chunkID, place)
    defer { land(others) }
    // A remote that cannot be opened at all is an error: nothing says that waiting would help.
    let link = try link(place.remote)
    while true {
      do throws(VMCheckpointError) {
        try worker.range.load(
          link,
          worker.chunk,
          worker.decoder,
          seed.fingerprinter
        )
        break
      } catch {
        guard error.code == .unavailable else { throw error }
        // The transport has tried for a minute by now.
        usleep(UInt32(Self.retrySeconds * 1e6))
      }
    }
    try write(worker.range)
    return true
  }

  private func takeWorker() throws(VMCheckpointError) -> Worker {
    if let worker = monitor.withLock({ state.free.popLast() }) { return worker }
    return Worker(
      range: try ChunkRange(),
      chunk: try ChunkBuffer(),
      decoder: try LZ4FrameDecoder()
    )
  }

  private func link(_ remote: RemoteRow) throws(VMCheckpointError) -> RemoteLink {
    if let link = monitor.withLock({ state.links[remote.id] }) { return link }
    let (_, transport) = try store.open(
      remote: remote.name,
      RemoteAccess(),
      control: OperationControl()
    )
    let link = try RemoteLink(transport, uuid: remote.uuid)
    monitor.withLock { state.links[remote.id] = link }
    return link
  }

  /// Puts the chunk into the range, and such behind it in the pack that are not here either.
  ///
  /// - Returns: The others.
  private func fill(
    _ range: ChunkRange,
    _ chunkID: Int64,
    _ place: Place
  ) throws(VMCheckpointError) -> [Int64] {
    let byteCount = monitor.withLock {
      let next = state.next[place.pack]
      return next?.offset == place.offset
        ? min(next!.byteCount * 2, ChunkRange.byteLimit) : Self.firstByteCount
    }
    range.begin(place.pack, offset: place.offset)
    let candidates = try store.read { database in
      try Row.fetchAll(
        database,
        sql: """
          SELECT c.chunk_id, c.offset, k.stored_bytes
            FROM chunk_place c JOIN chunk k ON k.id = c.chunk_id
           WHERE c.pack_id = ?1 AND c.offset >= ?2 AND c.offset + k.stored_bytes <= ?2 + ?3
             AND NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = c.chunk_id)
           ORDER BY c.offset
          """,
        arguments: [
          place.packRow, Int64(clamping: place.offset),
          max(byteCount, ChunkFormat.maximumStoredByteCount),
        ]
      ).map { row in
        (
          chunkID: try row.value(at: 0) as Int64,
          offset: UInt64(clamping: try row.value(at: 1) as Int64),
          part: try ChunkReader.Rows(database).part(
            try row.value(at: 0),
            storedByteCount: Int(clamping: try row.value(at: 2) as Int64)
          )
        )
      }
    }
    let isPossible = candidates.allSatisfy {
      (1...ChunkFormat.maximumStoredByteCount).contains($0.part.storedByteCount)
    }
    guard isPossible else {
      throw .corrupt("a chunk of pack \(place.pack) has an impossible length")
    }
    var others: [Int64] = []
    var end = place.offset
    for candidate in candidates {
      let isOther = candidate.chunkID != chunkID
      if isOther, !monitor.withLock({ state.inFlight.insert(candidate.chunkID).inserted }) {
        continue
      }
      guard range.add(candidate.part, in: place.pack, at: candidate.offset) else {
        if isOther { land([candidate.chunkID]) }
        break
      }
      if isOther { others.append(candidate.chunkID) }
      end = candidate.offset + UInt64(candidate.part.storedByteCount)
    }
    let next = (offset: end, byteCount: byteCount)
    monitor.withLock { state.next[place.pack] = next }
    return others
  }

  /// Makes rows of what came. A chunk that was deleted meanwhile is passed over.
  private func write(_ range: ChunkRange) throws(VMCheckpointError) {
    let lock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: store.location,
      cancellation: CancellationFlag()
    )
    defer { lock.release() }
    try store.write { database in
      var totals = MissingChunks.Totals()
      try BroughtChunkWriter(database).write(range, &totals)
    }
  }
}
