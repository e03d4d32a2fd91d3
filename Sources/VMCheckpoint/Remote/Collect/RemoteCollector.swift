import Glibc

/// What a collection of a remote did.
public struct RemoteCollectResult: Sendable, Hashable {
  /// Nothing was deleted; the numbers say what would be.
  public var dryRun: Bool
  /// Snapshots that count.
  public var snapshotCount: Int
  /// Manifests that were put too late to count, or that a newer one replaces; they are deleted.
  public var voidManifestCount: Int
  /// Packs that no snapshot needs, and that were deleted.
  public var deletedPackCount: Int
  /// Of these packs.
  public var deletedByteCount: UInt64
  /// Packs that were condemned, and that a push needed before they were deleted.
  public var rescuedPackCount: Int
  /// Packs that wait for pushes to end: they stay for a later collection.
  public var waitingPackCount: Int
  /// Index runs that named no pack any more; they are deleted.
  public var deletedRunCount: Int
  /// Wall time.
  public var durationSeconds: Double
}

/// Deletes the packs of a remote that no snapshot needs, while others push: rules 4 and 5 of ``RemoteSession``.
///
/// Any number of collectors may run at once. One that is killed leaves a list of condemned packs, which the next one
/// takes up.
struct RemoteCollector {
  private static let pollMicroseconds: UInt32 = 200_000
  private static let probeIntervalSeconds = 2.0

  private let link: RemoteLink
  private let control: OperationControl

  init(_ link: RemoteLink, control: OperationControl) {
    self.link = link
    self.control = control
  }

  /// What all manifests say at one time.
  private struct Marks {
    var snapshotCount = 0
    var needed = Set<RemoteID>()
    /// Put too late.
    var void: [RemoteKey] = []
    /// There is one of a higher generation.
    var replaced: [RemoteKey] = []
    /// Those that count.
    var valid: [RemoteCatalog.Entry] = []
  }

  /// - Parameter waits: Whether it waits for the pushes that are under way; else packs that such may need stay condemned,
  ///   and the next collection deletes them.
  /// - Throws: ``VMCheckpointError``: `corrupt` when a manifest cannot be read: nothing is deleted then; and as
  ///   ``RemoteTransport``. Packs that were deleted stay deleted.
  func run(dryRun: Bool, waits: Bool) throws(VMCheckpointError) -> RemoteCollectResult {
    let start = MonotonicClock.nowSeconds
    let earlier = try condemnedBefore()
    let marks = try mark()
    let packs = try list(RemoteNames.packs, RemoteNames.packID)
    let unneeded = Set(packs.keys).subtracting(marks.needed)
    var result = RemoteCollectResult(
      dryRun: dryRun,
      snapshotCount: marks.snapshotCount,
      voidManifestCount: marks.void.count + marks.replaced.count,
      deletedPackCount: 0,
      deletedByteCount: 0,
      rescuedPackCount: 0,
      waitingPackCount: 0,
      deletedRunCount: 0,
      durationSeconds: 0
    )
    func delete(_ candidates: Set<RemoteID>, needed: Set<RemoteID>) throws(VMCheckpointError) {
      result.rescuedPackCount += candidates.intersection(needed).count
      for pack in candidates.subtracting(needed).sorted() {
        try control.cancellation.check()
        if !dryRun { try link.transport.delete(RemoteNames.pack(pack)) }
        result.deletedPackCount += 1
        result.deletedByteCount += packs[pack] ?? 0
      }
    }
    let seen = SeenManifests(link)
    try seen.requireNoneLost(void: marks.void, validCount: marks.snapshotCount)
    if dryRun {
      try delete(unneeded, needed: [])
      result.durationSeconds = MonotonicClock.nowSeconds - start
      return result
    }
    for key in marks.void + marks.replaced { try link.transport.delete(key) }
    try seen.note(marks.valid.map(\.key))

    // Rule 4: the list is there before anybody is looked for who may not have read it.
    let new = unneeded.subtracting(earlier.reduce(into: Set()) { $0.formUnion($1.packs) })
    var lists = earlier
    if !new.isEmpty { lists.append(try condemn(new)) }
    var ready = Set<RemoteID>()
    // Of two lists with a pack it is the earlier that has to be waited for: fewer pushes may not have read it.
    for list in lists.sorted(by: { $0.modifiedSeconds < $1.modifiedSeconds }) {
      let packs = list.packs.intersection(unneeded).subtracting(ready)
      if !packs.isEmpty, try awaitPushes(before: list, waits: waits) { ready.formUnion(packs) }
    }
    result.waitingPackCount = unneeded.subtracting(ready).count
    var last = marks
    if !ready.isEmpty {
      // Rule 5. A bucket that was restored while others were waited for has new times, as before the first look.
      last = try mark()
      try seen.requireNoneLost(void: last.void, validCount: last.snapshotCount)
      try delete(ready, needed: last.needed)
      result.snapshotCount = last.snapshotCount
      result.deletedRunCount = try deleteRuns(without: Set(packs.keys).subtracting(ready))
    }
    try CondemnedListMerge(link).run(lists)
    try RemoteCatalog(link, control: control).write(last.valid)
    result.durationSeconds = MonotonicClock.nowSeconds - start
    return result
  }

  // MARK: Marking

  private func mark() throws(VMCheckpointError) -> Marks {
    var marks = Marks()
    var newest: [String: (generation: UInt32, entry: RemoteCatalog.Entry)] = [:]
    for facts in try link.list(RemoteNames.snapshots) {
      try control.cancellation.check()
      guard let generation = RemoteNames.generation(ofManifest: facts.key) else { continue }
      guard let (head, counts) = try ManifestHeads.any(facts, link) else { continue }
      guard counts else {
        marks.void.append(facts.key)
        continue
      }
      // A manifest that a newer one replaces is still read by somebody: its packs stay until it is gone.
      marks.needed.formUnion(head.packs)
      let folder = String(RemoteNames.folder(ofManifest: facts.key))
      if let known = newest[folder], known.generation > generation {
        marks.replaced.append(facts.key)
        continue
      }
      if let known = newest[folder] { marks.replaced.append(known.entry.key) }
      newest[folder] = (generation, RemoteCatalog.entry(facts, head))
    }
    marks.snapshotCount = newest.count
    marks.valid = newest.values.map(\.entry)
    return marks
  }

  private func list(
    _ prefix: String,
    _ id: (RemoteKey) -> RemoteID?
  ) throws(VMCheckpointError) -> [RemoteID: UInt64] {
    var all: [RemoteID: UInt64] = [:]
    try link.transport.list(prefix, after: nil) { (batch) throws(VMCheckpointError) in
      try control.cancellation.check()
      for facts in batch {
        if let id = id(facts.key) { all[id] = facts.byteCount }
      }
      return true
    }
    return all
  }

  // MARK: Condemning

  private func condemnedBefore() throws(VMCheckpointError) -> [CondemnedList] {
    var lists: [CondemnedList] = []
    for facts in try link.list(RemoteNames.condemned) {
      guard let (bytes, facts) = try link.whole(facts.key) else { continue }
      let packs = try RemoteIDList.decode(
        bytes[...],
        .condemnedPacks,
        title: "\(link.transport.title)/\(facts.key)"
      )
      lists.append(CondemnedList(facts, Set(packs)))
    }
    return lists
  }

  private func condemn(_ packs: Set<RemoteID>) throws(VMCheckpointError) -> CondemnedList {
    let bytes = RemoteIDList.encode(.condemnedPacks, packs.sorted())
    return CondemnedList(try link.put(RemoteNames.condemnedPacks(RemoteID()), bytes), packs)
  }

  /// Waits until every push that may not have read the list has ended.
  ///
  /// - Returns: `false` when such pushes are under way, and it does not wait.
  private func awaitPushes(
    before list: CondemnedList,
    waits: Bool
  ) throws(VMCheckpointError) -> Bool {
    let patience = link.description.leaseSeconds + link.description.marginSeconds
    var sessions: [RemoteKey] = []
    for facts in try link.list(RemoteNames.sessions) {
      // Rule 1: one that began after the list was there has read it.
      guard let begunSeconds = try RemoteSession.begunSeconds(facts.key, link),
        begunSeconds - link.description.marginSeconds <= list.modifiedSeconds
      else { continue }
      sessions.append(facts.key)
    }
    var hasWarned = false
    while !sessions.isEmpty {
      try control.cancellation.check()
      var alive: [RemoteKey] = []
      for session in sessions {
        guard let facts = try link.transport.head(session) else { continue }
        if facts.serverSeconds - patience > facts.modifiedSeconds {
          // Its push is over, whatever became of it: it cannot commit any more.
          try link.transport.delete(session)
          continue
        }
        alive.append(session)
      }
      sessions = alive
      guard !sessions.isEmpty else { return true }
      guard waits else { return false }
      if !hasWarned {
        control.onWarning?(
          "waiting for \(sessions.count == 1 ? "a push" : "\(sessions.count) pushes") to end; one that was "
            + "killed is given up after \(patience) s; --leave-waiting leaves that to a later gc"
        )
      }
      hasWarned = true
      let next = MonotonicClock.nowSeconds + Self.probeIntervalSeconds
      while MonotonicClock.nowSeconds < next {
        try control.cancellation.check()
        usleep(Self.pollMicroseconds)
      }
    }
    return true
  }

  // MARK: Index

  /// Deletes runs all of whose packs are gone: they are hints that lead nowhere.
  private func deleteRuns(without packs: Set<RemoteID>) throws(VMCheckpointError) -> Int {
    var count = 0
    for facts in try link.list(RemoteNames.indexRuns) {
      try control.cancellation.check()
      guard let (bytes, _) = try link.whole(facts.key),
        let named = try? IndexRunObject.packs(bytes[...], title: facts.key.text),
        packs.isDisjoint(with: named)
      else { continue }
      try link.transport.delete(facts.key)
      count += 1
    }
    return count
  }
}
