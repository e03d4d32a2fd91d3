import GRDB
import Glibc
import Synchronization

/// Brings the chunks of a snapshot out of remotes while somebody reads it: those that somebody waits for first, then those
/// of a working set, then all others if that is asked for.
///
///     asked for ─┐
///     working set┼─> ranges of packs ─> ``BroughtChunks`` ─> readers
///     all others ┘                                └─> rows of the store
///
/// For a VM it waits for as long as it takes: a VM never reads anything but the page, and an error could end it. It says
/// what it waits for (``RemoteOutages``). For others a remote that does not answer is an error.
///
/// Thread-safe: several ranges are brought at once, and no chunk twice. Threads start when the first chunk is asked for.
final class RemoteSupply: Sendable {
  private static let arrived = Monitor.Condition(0)
  private static let hasWork = Monitor.Condition(1)
  /// Threads that bring only what somebody waits for.
  private static let urgentThreadCount = 2
  /// Threads that bring anything; so many requests at a time are for what nobody waits for.
  private static let prefetchLimit = 8
  /// The same, while somebody waits: what comes then comes later for them.
  private static let busyPrefetchLimit = 3
  /// What comes with a chunk that somebody waits for, and what it grows to for who reads in order.
  private static let firstByteCount = 256 << 10
  /// How much a thread gives way to VMs once it brings what no working set has: the guest runs on the same processors.
  private static let backgroundNiceness: Int32 = 5
  /// For how long the places count that were found anew, before they are looked for again.
  private static let renewalSeconds = 60.0
  /// How often it is looked whether there is room again for what nobody waits for.
  private static let roomSeconds = 0.01

  private let store: Store
  private let snapshot: SnapshotRow
  private let waits: Bool
  private let control: OperationControl
  private let brought: BroughtChunks
  private let remotes: SupplyRemotes
  private let monitor = Monitor(conditionCount: 2)
  // Guarded by `monitor`.
  private nonisolated(unsafe) var state: State
  private let isComplete: Atomic<Bool>
  private let hasStarted = Atomic(false)
  private let arrivals = Atomic<Int>(0)
  private let bells = Mutex<[Listener]>([])
  /// When the pages were looked for anew in a remote, by its number.
  private let renewal = Mutex<[Int64: Double]>([:])

  /// - Parameters:
  ///   - snapshot: What is read.
  ///   - missing: Its chunks without data in the store.
  ///   - waits: Whether a remote that cannot be reached is waited for.
  init(
    _ store: Store,
    _ seed: StoreSeed,
    of snapshot: SnapshotRow,
    missing: Set<Int64>,
    waits: Bool,
    control: OperationControl
  ) {
    self.store = store
    self.snapshot = snapshot
    self.waits = waits
    self.control = control
    let warn: @Sendable (String) -> Void = { control.onWarning?($0) }
    brought = BroughtChunks(storePath: store.path, warn: warn)
    remotes = SupplyRemotes(
      store,
      seed.fingerprinter,
      ofSnapshot: snapshot.name,
      waits: waits,
      warn: warn
    )
    state = State(missing: missing)
    isComplete = Atomic(missing.isEmpty)
  }

  /// Whether no chunk has to be brought, as far as is known.
  var hasAll: Bool { isComplete.load(ordering: .acquiring) }

  /// How often something came, or failed to: who was told that chunks are not here may ask again when this changes.
  var arrivalCount: Int { arrivals.load(ordering: .acquiring) }

  var counts: Counts {
    var counts = monitor.withLock { state.counts }
    (counts.waitCount, counts.waitSeconds) = remotes.outages.totals
    return counts
  }

  /// Rings, as long as somebody has the bell, whenever ``arrivalCount`` has changed.
  func listen(_ bell: Doorbell) {
    bells.withLock { bells in
      bells.removeAll { $0.bell == nil }
      bells.append(Listener(bell: bell))
    }
  }

  /// Makes sure that chunks can be brought at all, without asking a remote: that the store may be written, and that this
  /// user has confirmed the remotes and has credentials.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied` or `unavailable`.
  func requireRemotes() throws(VMCheckpointError) {
    guard let anyMissing = monitor.withLock({ state.missing.first }),
      let range = try place(of: anyMissing)
    else { return }
    try store.requireWritable()
    try remotes.require(range.remoteID)
  }

  // MARK: Asking

  /// A chunk that came and may not be a row yet.
  func chunk(_ id: Int64) -> BroughtChunk? {
    hasStarted.load(ordering: .acquiring) ? brought.chunk(id) : nil
  }

  /// Whether a chunk can be read without waiting, or cannot be had at all. Otherwise it comes.
  ///
  /// - Parameter isNeeded: Whether somebody waits for it. Without that it comes when nobody does.
  func isHere(_ chunkID: Int64, isNeeded: Bool) -> Bool {
    let isHere = monitor.withLock {
      guard state.missing.contains(chunkID), state.failures[chunkID] == nil else { return true }
      let isComing = state.inFlight.contains(chunkID)
      if isNeeded ? !isComing : !isComing && !isPrefetching { ask(chunkID) }
      return false
    }
    if !isHere { start() }
    return isHere
  }

  /// Brings a chunk's data, and waits for it.
  ///
  /// - Returns: `false` when the chunk is gone, or in no remote, or the snapshot has its pages in another one now.
  /// - Throws: ``VMCheckpointError``: `permissionDenied` when the store may not be written, or the remote is not confirmed;
  ///   `notFound` when the pack is gone; `corrupt`; `cancelled`; and as ``RemoteTransport``, unless that is waited for.
  func bring(_ chunkID: Int64) throws(VMCheckpointError) -> Bool {
    // The reader may have seen the store before its chunk came.
    if chunk(chunkID) != nil { return true }
    let (isKnown, hasMoved) = monitor.withLock {
      (state.missing.contains(chunkID), state.moved.contains(chunkID))
    }
    if hasMoved { return false }
    if !isKnown {
      if try store.read({ try ChunkPresence($0).hasData(chunkID) }) { return true }
      guard try place(of: chunkID) != nil else { return false }
      monitor.withLock { _ = state.missing.insert(chunkID) }
      isComplete.store(false, ordering: .releasing)
    }
    start()
    try monitor.withLock { () throws(VMCheckpointError) in
      while state.missing.contains(chunkID) {
        if let failure = state.failures.removeValue(forKey: chunkID) { throw failure }
        if state.isClosed || !waits && control.cancellation.isCancelled {
          throw VMCheckpointError(.cancelled, "interrupted")
        }
        if !state.inFlight.contains(chunkID) { ask(chunkID) }
        _ = monitor.wait(for: Self.arrived, untilSeconds: MonotonicClock.nowSeconds + 0.1)
      }
    }
    return monitor.withLock { !state.moved.contains(chunkID) }
  }

  /// Lets chunks come before anybody asks for them, in this order; those before that were wished for earlier.
  ///
  /// - Parameter isBackground: Whether a VM that runs goes before.
  func prefetch(_ chunkIDs: [Int64], isBackground: Bool) {
    let isWanted = monitor.withLock {
      let chunkIDs = chunkIDs.filter { state.missing.contains($0) }
      guard !chunkIDs.isEmpty else { return false }
      state.wishes.append(Wish(chunkIDs: chunkIDs, isBackground: isBackground))
      monitor.wakeAll(Self.hasWork)
      return true
    }
    if isWanted { start() }
  }

  /// All chunks that are not here, in no order.
  var missing: Set<Int64> { monitor.withLock { state.missing } }

  private var isPrefetching: Bool {
    state.isPlanning || !state.wishes.isEmpty || !state.planned.isEmpty
  }

  /// Notes what somebody waits for.
  private func ask(_ chunkID: Int64) {
    guard !state.urgent.contains(chunkID) else { return }
    state.urgent.append(chunkID)
    brought.addWaiter(1)
    monitor.wakeAll(Self.hasWork)
  }

  // MARK: Threads

  private func start() {
    guard !hasStarted.exchange(true, ordering: .acquiringAndReleasing) else { return }
    do throws(VMCheckpointError) {
      let writer = try WorkerThreads(count: 1) { [brought] in brought.write() }
      monitor.withLock { state.threads.append(writer) }
      for (count, isForWaiters) in [(Self.urgentThreadCount, true), (Self.prefetchLimit, false)] {
        let workers = try WorkerThreads(count: count) { [self] in work(isForWaiters: isForWaiters) }
        monitor.withLock { state.threads.append(workers) }
      }
    } catch {
      control.onWarning?(error.message)
      // Another call tries again.
      hasStarted.store(false, ordering: .releasing)
    }
  }

  /// Ends all threads; what came is rows of the store then. Nothing can be brought any more.
  func close() {
    remotes.close()
    let threads = monitor.withLock {
      state.isClosed = true
      monitor.wakeAll(Self.hasWork)
      monitor.wakeAll(Self.arrived)
      defer { state.threads = [] }
      return state.threads
    }
    brought.close()
    for thread in threads { thread.join() }
  }

  private func work(isForWaiters: Bool) {
    do throws(VMCheckpointError) {
      let worker = Worker(
        range: try ChunkRange(),
        chunk: try ChunkBuffer(),
        decoder: try LZ4FrameDecoder()
      )
      var isNice = false
      while let task = nextTask(isForWaiters: isForWaiters) {
        if case .planned(_, isBackground: true) = task, !isNice {
          isNice = true
          // Of this thread alone.
          _ = setpriority(
            __priority_which_t(PRIO_PROCESS.rawValue),
            0,
            Self.backgroundNiceness
          )
        }
        run(task, worker)
      }
    } catch {
      control.onWarning?(error.message)
    }
  }

  private func nextTask(isForWaiters: Bool) -> Task? {
    monitor.withLock {
      while !state.isClosed {
        if !state.urgent.isEmpty {
          let chunkID = state.urgent.removeFirst()
          guard state.missing.contains(chunkID), state.inFlight.insert(chunkID).inserted else {
            brought.addWaiter(-1)
            continue
          }
          state.urgentCount += 1
          return .urgent(chunkID)
        }
        guard !isForWaiters else {
          monitor.wait(for: Self.hasWork)
          continue
        }
        if !state.isPlanning, !state.wishes.isEmpty, state.planned.isEmpty {
          state.isPlanning = true
          return .wish(state.wishes.removeFirst())
        }
        let limit = state.urgentCount > 0 ? Self.busyPrefetchLimit : Self.prefetchLimit
        let mayPrefetch = state.prefetchCount < limit && !state.planned.isEmpty
        if mayPrefetch, brought.hasRoom, let range = takePlanned() {
          state.prefetchCount += 1
          return .planned(range, isBackground: state.isBackground)
        }
        if mayPrefetch, !state.planned.isEmpty {
          // Until something is written.
          _ = monitor.wait(
            for: Self.hasWork,
            untilSeconds: MonotonicClock.nowSeconds + Self.roomSeconds
          )
        } else if state.planned.isEmpty, !state.wishes.isEmpty, !state.isPlanning {
          continue
        } else {
          monitor.wait(for: Self.hasWork)
        }
      }
      return nil
    }
  }

  /// What of the next planned range is not here, and not on its way.
  private func takePlanned() -> SupplyPlan.Range? {
    while var range = state.planned.popFirst() {
      range.chunks.removeAll {
        !state.missing.contains($0.id) || state.failures[$0.id] != nil
          || !state.inFlight.insert($0.id).inserted
      }
      if !range.chunks.isEmpty { return range }
    }
    return nil
  }

  private func run(_ task: Task, _ worker: Worker) {
    switch task {
    case .wish(let wish):
      var ranges: [SupplyPlan.Range] = []
      do throws(VMCheckpointError) {
        ranges = try store.read { database in
          var plan = try SupplyPlan(database)
          return try plan.ranges(of: wish.chunkIDs)
        }
      } catch {
        // Who needs a chunk hears of it.
        control.onWarning?(error.message)
      }
      monitor.withLock {
        state.planned = ranges[...]
        state.isPlanning = false
        state.isBackground = wish.isBackground
        monitor.wakeAll(Self.hasWork)
      }
      // Who asked for what nobody waits for may have to ask for itself now.
      if ranges.isEmpty { noteArrival() }
    case .planned(let range, _):
      let rest = bring(range, worker)
      monitor.withLock {
        state.prefetchCount -= 1
        if !rest.chunks.isEmpty { state.planned.insert(rest, at: state.planned.startIndex) }
        monitor.wakeAll(Self.hasWork)
      }
    case .urgent(let chunkID):
      var range: SupplyPlan.Range?
      do throws(VMCheckpointError) {
        range = try urgentRange(chunkID)
        if range == nil { throw .corrupt("chunk \(chunkID) is gone") }
      } catch {
        fail([chunkID], error)
      }
      if let range { _ = bring(range, worker) }
      brought.addWaiter(-1)
      monitor.withLock {
        state.urgentCount -= 1
        monitor.wakeAll(Self.hasWork)
      }
    }
  }

  /// A chunk that somebody waits for, and such behind it in its pack that are not here either: the more the longer somebody
  /// goes on in order.
  private func urgentRange(_ chunkID: Int64) throws(VMCheckpointError) -> SupplyPlan.Range? {
    guard var range = try place(of: chunkID) else { return nil }
    let (pack, offset) = (range.pack, range.chunks[0].offset)
    let (isAlone, byteCount) = monitor.withLock {
      let next = state.next[pack]
      let grows = next.map { $0.offset == offset } ?? false
      return (
        state.alone.contains(chunkID),
        grows ? min(next!.byteCount * 2, ChunkRange.byteLimit) : Self.firstByteCount
      )
    }
    guard !isAlone else { return range }
    let found = range
    range = try store.read { try SupplyPlan($0).extended(found, byteCount: byteCount) }
    monitor.withLock {
      let others = range.chunks.dropFirst().prefix {
        state.missing.contains($0.id) && state.inFlight.insert($0.id).inserted
      }
      range.chunks = [range.chunks[0]] + others
      state.next[pack] = (range.chunks.last!.end, byteCount)
    }
    return range
  }

  // MARK: Bringing

  /// Brings the chunks of a range, which are in flight.
  ///
  /// - Returns: What did not fit, which is in flight no more.
  private func bring(_ wanted: SupplyPlan.Range, _ worker: Worker) -> SupplyPlan.Range {
    var rest = wanted
    rest.chunks = []
    var taken = wanted.chunks
    do throws(VMCheckpointError) {
      let parts = try parts(of: wanted.chunks)
      worker.range.begin(wanted.pack, offset: wanted.chunks[0].offset)
      for (index, (chunk, part)) in zip(wanted.chunks, parts).enumerated() {
        guard worker.range.add(part, in: wanted.pack, at: chunk.offset) else {
          rest.chunks = Array(wanted.chunks[index...])
          taken = Array(wanted.chunks[..<index])
          break
        }
      }
      try remotes.load(worker.range, worker.chunk, worker.decoder, fromRemote: wanted.remoteID)
      brought.add(worker.range)
      land(taken)
      monitor.withLock { state.inFlight.subtract(rest.chunks.map(\.id)) }
    } catch {
      monitor.withLock { state.inFlight.subtract(rest.chunks.map(\.id)) }
      if error.code == .notFound {
        renew(taken.map(\.id), remoteID: wanted.remoteID, error)
      } else {
        fail(taken.map(\.id), error)
      }
    }
    noteArrival()
    return rest
  }

  /// Finds the snapshot's pages anew (``PlaceRenewal``), since the pack of chunks is gone. Who needs one of them reads the
  /// extents again.
  private func renew(_ chunkIDs: [Int64], remoteID: Int64, _ cause: VMCheckpointError) {
    do throws(VMCheckpointError) {
      try renewal.withLock { (renewedSeconds) throws(VMCheckpointError) in
        let isDone =
          renewedSeconds[remoteID].map {
            MonotonicClock.nowSeconds < $0 + Self.renewalSeconds
          } ?? false
        if isDone { return }
        try remotes.renewPlaces(of: snapshot, inRemote: remoteID)
        renewedSeconds[remoteID] = MonotonicClock.nowSeconds
      }
      let missing = try store.read {
        // Who still has to serve a guest goes on after a signal.
        Set(try Store.missingChunks(of: snapshot, $0, CancellationFlag()))
      }
      monitor.withLock {
        // All that were not brought and have no place any more: none of them is asked for again.
        let moved = state.missing.subtracting(missing)
        state.inFlight.subtract(chunkIDs)
        state.missing.subtract(moved)
        state.moved.formUnion(moved)
        state.missing.formUnion(missing.filter { brought.chunk($0) == nil })
        isComplete.store(state.missing.isEmpty, ordering: .releasing)
      }
      let lost = chunkIDs.filter { missing.contains($0) }
      if !lost.isEmpty { fail(lost, PlaceRenewal.lost(snapshot, cause)) }
    } catch {
      fail(chunkIDs, error)
    }
  }

  /// What a range needs to know of chunks.
  private func parts(
    of chunks: [SupplyPlan.Chunk]
  ) throws(VMCheckpointError) -> [ChunkRange.Part] {
    try store.read { database in
      let rows = try ChunkReader.Rows(database)
      return try chunks.map { try rows.part($0.id, storedByteCount: $0.storedByteCount) }
    }
  }

  private func land(_ chunks: [SupplyPlan.Chunk]) {
    monitor.withLock {
      for chunk in chunks {
        state.missing.remove(chunk.id)
        state.inFlight.remove(chunk.id)
        state.alone.remove(chunk.id)
        state.counts.chunkCount += 1
        state.counts.byteCount += UInt64(chunk.storedByteCount)
      }
      if state.missing.isEmpty { isComplete.store(true, ordering: .releasing) }
    }
  }

  /// What could not be brought. Of several chunks one may be damaged: then each comes by itself.
  private func fail(_ chunkIDs: [Int64], _ error: VMCheckpointError) {
    monitor.withLock {
      state.inFlight.subtract(chunkIDs)
      for chunkID in chunkIDs {
        if chunkIDs.count > 1, error.code == .corrupt {
          state.alone.insert(chunkID)
          ask(chunkID)
        } else {
          state.failures[chunkID] = error
        }
      }
    }
    noteArrival()
  }

  private func noteArrival() {
    arrivals.add(1, ordering: .acquiringAndReleasing)
    monitor.withLock { monitor.wakeAll(Self.arrived) }
    bells.withLock { for listener in $0 { listener.bell?.ring() } }
  }

  // MARK: The store and its remotes

  private func place(of chunkID: Int64) throws(VMCheckpointError) -> SupplyPlan.Range? {
    try store.read { database in
      guard try RemoteTable(database).isThere else { return nil }
      var plan = try SupplyPlan(database)
      return try plan.place(of: chunkID)
    }
  }
}
